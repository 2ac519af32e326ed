"""How images are shown to an extractor: quarter and eighth turns, second sizes, and where keypoints lie then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from posfeat_hloc import confs, extractors
from posfeat_hloc.extract_features import extract, extract_pixels, extract_shown
from posfeat_hloc.features import UPRIGHT, Features, View
from posfeat_hloc.images.decoding import DecodedImage, read_orientation
from posfeat_hloc.images.loader import ImageInputs
from posfeat_hloc.images.resampling import tilted
from posfeat_hloc.orientation.looks import clockwise, upright_frame
from posfeat_hloc.stores import FeatureStore
from tests.conftest import Texture

CONF = {
    "output": "f",
    "model": {"name": "sift", "max_keypoints": 400},
    "preprocessing": {"grayscale": True, "resize_max": 150},
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_frames_undo_what_exif_does(orientation: int) -> None:
    image = DecodedImage(np.zeros((30, 50), np.uint8), orientation)
    upright = np.array([[3, 4], [13, 4], [3, 24]], np.float32)
    stored = image.to_stored(upright)
    assert_allclose((stored[1:] - stored[0]) @ upright_frame(orientation).T, upright[1:] - upright[0])


def test_clockwise_is_as_the_picture_turns() -> None:
    picture = DecodedImage(np.zeros((30, 50), np.uint8))
    turned = picture.rot90(1)
    ahead = turned.to_stored(np.array([[0, 0], [7, 0]], np.float32))  # rightwards after the turn
    assert_allclose(clockwise(90) @ (ahead[1] - ahead[0]), [7, 0], atol=1e-6)


@pytest.mark.parametrize("shape", [(60, 100), (101, 40), (80, 80, 3)])
def test_a_tilted_picture_holds_all_of_it(shape: tuple[int, ...]) -> None:
    pixels = np.zeros(shape, np.uint8)
    corners = np.array([[5, 5], [shape[1] - 6, 5], [5, shape[0] - 6], [shape[1] - 6, shape[0] - 6]])
    for x, y in corners:
        pixels[y - 1 : y + 2, x - 1 : x + 2] = 255
    canvas, tilt = tilted(pixels)
    assert tilt.size == (shape[1], shape[0])
    grey = canvas if canvas.ndim == 2 else canvas[..., 0]
    for corner in corners:
        x, y = tilt.matrix[:, :2] @ corner + tilt.matrix[:, 2]
        assert grey[round(y), round(x)] > 200
        assert_allclose(tilt.back(np.array([[x, y]], np.float32)), [corner], atol=1e-3)
    right = tilt.matrix[:, :2] @ [1, 0]  # goes down to the right after an eighth clockwise
    assert_allclose(right, [np.sqrt(0.5), np.sqrt(0.5)])
    assert_array_equal(tilt.inside(np.array([[8, 8], [7.9, 20]], np.float32), 8), [True, False])


@pytest.mark.parametrize("turn", [45, 90, 135, 180, 225, 270, 315])
def test_keypoints_stay_in_the_pixels_as_stored(tmp_path: Path, texture: Texture, turn: int) -> None:
    Image.fromarray(texture(1, 150, 110)).save(tmp_path / "a.png")
    for view, path in ((UPRIGHT, "0.h5"), (View(turn), "1.h5")):
        extract(CONF, tmp_path, tmp_path / path, ["a.png"], "cpu", progress=False, views={"a.png": view})
    with FeatureStore(tmp_path / "0.h5") as before, FeatureStore(tmp_path / "1.h5") as after:
        assert (before.view("a.png"), after.view("a.png")) == (UPRIGHT, View(turn))
        assert after.image_size("a.png") == (150, 110)
        points, moved = before.keypoints("a.png"), after.keypoints("a.png")
    distances = np.linalg.norm(points[:, None] - moved[None], axis=2)
    inner = ((points > 12) & (points < [138, 98])).all(axis=1)
    assert (distances[inner].min(axis=1) < 1.0).mean() > (0.9 if turn % 90 == 0 else 0.6)
    assert ((moved >= -0.5) & (moved <= [149.5, 109.5])).all()
    assert len(moved) < 1.3 * len(points)  # nothing on the streaks around a tilted image


def test_the_view_is_part_of_what_counts_as_done(tmp_path: Path, texture: Texture) -> None:
    Image.fromarray(texture(1, 120, 90)).save(tmp_path / "a.png")
    Image.fromarray(texture(2, 120, 90)).save(tmp_path / "b.png")

    def run(**options: object) -> list[str]:
        return extract(
            CONF, tmp_path, tmp_path / "f.h5", ["a.png", "b.png"], "cpu", progress=False, **options
        ).extracted

    assert run() == ["a.png", "b.png"]
    assert run(views={"b.png": View(90)}) == ["b.png"]
    assert run(views={"b.png": View(90)}) == []
    assert run() == []  # as recorded
    assert run(views={"b.png": View(90, 0.5)}) == ["b.png"]
    assert run(views={}) == ["b.png"]
    assert run(exif=False) == ["a.png", "b.png"]
    assert ImageInputs(tmp_path, rot90=3, views={"b.png": View(180)}).view("b.png") == View(90)


@pytest.mark.parametrize("second", [0.5, 2.0])
def test_a_second_size_takes_no_more_room(tmp_path: Path, texture: Texture, second: float) -> None:
    pixels = texture(3, 150, 110)
    limited = CONF | {"model": {"name": "sift", "max_keypoints": 60}}
    extractor = extractors.create(limited["model"])  # type: ignore[arg-type]
    usual = extract_pixels(extractor, pixels, {"grayscale": True, "resize_max": 150})
    found = extract_shown(extractor, DecodedImage(pixels), {"grayscale": True, "resize_max": 150}, View(0, second))
    assert len(found) <= max(len(usual), 60)
    known = (np.linalg.norm(found.keypoints[:, None] - usual.keypoints[None], axis=2) < 0.01).any(axis=1)
    assert 0.3 <= known.mean() <= 0.9
    assert ((found.keypoints >= -0.5) & (found.keypoints <= [149.5, 109.5])).all()


def test_shown_as_it_is_a_picture_has_its_usual_features(texture: Texture) -> None:
    conf = confs.extractors["sift"]
    pixels = texture(4, 150, 110)
    extractor = extractors.create(conf["model"])
    one = extract_pixels(extractor, pixels, conf["preprocessing"])
    other = extract_shown(extractor, DecodedImage(pixels), conf["preprocessing"], UPRIGHT)
    for name in Features.__dataclass_fields__:
        assert_array_equal(getattr(one, name), getattr(other, name))


def test_the_tag_of_a_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("L", (8, 8)).save(tmp_path / "b.jpg")
    (tmp_path / "c.jpg").write_text("no picture")
    assert [read_orientation(tmp_path / name, default=0) for name in ("a.jpg", "b.jpg", "c.jpg")] == [6, 0, 0]
