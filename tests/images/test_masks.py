"""Masks: which file belongs to which image, in whose pixels it is read, and what extraction makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from posfeat_hloc import confs, extractors
from posfeat_hloc.__main__ import main
from posfeat_hloc.detection.selection import allowed, candidates, fewer, spread, strongest
from posfeat_hloc.errors import ConfigurationError, ImageError
from posfeat_hloc.extract_features import ExtractionReport, extract
from posfeat_hloc.features import Features
from posfeat_hloc.images.decoding import DecodedImage
from posfeat_hloc.images.masks import Masks
from posfeat_hloc.stores import FeatureStore
from tests.conftest import Texture
from tests.images.test_orientation import UPRIGHT


def conf_of(name: str, count: int) -> dict[str, Any]:
    conf = confs.extractors[name]
    return {**conf, "model": {**conf["model"], "max_keypoints": count}}


def run(folder: Path, conf: dict[str, Any], masks: Path | None) -> tuple[ExtractionReport, dict[str, Features]]:
    report = extract(conf, folder / "images", folder / "f.h5", device="cpu", progress=False, masks=masks)
    with FeatureStore(folder / "f.h5") as store:
        return report, {name: store.read(name) for name in report.names}


@pytest.fixture
def scene(tmp_path: Path, texture: Texture) -> Path:
    """Two images, a mask that forbids the left half of the first, and one that forbids nothing of the second."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    half = np.full((120, 160), 255, np.uint8)
    half[:, :80] = 0
    for i, name in enumerate(("a.png", "b.jpg")):
        Image.fromarray(texture(seed=i)).save(tmp_path / "images" / name)
    Image.fromarray(half).save(tmp_path / "masks/a.png.png")
    Image.new("L", (160, 120), 1).save(tmp_path / "masks/b.png")  # all but black allows
    return tmp_path


@pytest.mark.parametrize("feature", ["sift", "d2d-hardnet", "d2d-hardnet-subpixel", "posfeat-small"])
def test_the_best_keypoints_outside_of_the_mask_are_kept(scene: Path, feature: str) -> None:
    everything = run(scene, conf_of(feature, 100_000), None)[1]["a.png"]
    (scene / "f.h5").unlink()
    whole = run(scene, conf_of(feature, 60), None)[1]
    (scene / "f.h5").unlink()
    masked = run(scene, conf_of(feature, 60), scene / "masks")[1]
    for mine, expected in zip(vars(masked["b.jpg"]).values(), vars(whole["b.jpg"]).values(), strict=True):
        assert_array_equal(mine, expected)  # a mask that allows everything changes nothing
    right = everything.keypoints[:, 0] >= 79.5
    spreads = confs.extractors[feature]["model"].get("spread")
    keypoints, scores = everything.keypoints[right], everything.scores[right]
    best = strongest(scores, candidates(60, 160 * 120) if spreads else 60)
    best = best[spread(keypoints[best], scores[best], 60)] if spreads else best
    best = np.sort(scores[best])
    assert len(masked["a.png"]) == 60
    assert masked["a.png"].keypoints[:, 0].min() >= 79.5
    assert_array_equal(np.sort(masked["a.png"].scores), best)
    assert len(whole["a.png"]) - (whole["a.png"].keypoints[:, 0] >= 79.5).sum() > 10  # so there was something to drop


def test_limits_of_mixed_features_are_those_of_their_keypoints() -> None:
    mixed = confs.extractors["sift-superpoint"]["model"]
    assert extractors.keypoint_limit(mixed) == 8192
    assert extractors.with_limit(mixed)["keypoints"]["max_keypoints"] == extractors.ALL_KEYPOINTS
    assert "max_keypoints" not in extractors.with_limit(mixed)
    assert extractors.keypoint_limit(extractors.with_limit(mixed, 100)) == 100
    assert extractors.keypoint_limit({"name": "superpoint"}) is None
    assert extractors.keypoint_limit({"name": "posfeat"}) == 8192


def test_a_mask_that_changes_makes_its_image_outdated(scene: Path) -> None:
    conf = conf_of("sift", 60)
    run(scene, conf, scene / "masks")
    report, _ = run(scene, conf, scene / "masks")
    assert (report.extracted, report.reused) == ([], ["a.png", "b.jpg"])
    Image.new("L", (160, 120), 255).save(scene / "masks/a.png.png")
    report, _ = run(scene, conf, scene / "masks")
    assert (report.extracted, report.reused) == (["a.png"], ["b.jpg"])
    (scene / "masks/b.png").unlink()
    report, _ = run(scene, conf, scene / "masks")
    assert (report.extracted, report.reused) == (["b.jpg"], ["a.png"])
    assert "no mask in" in report.notes["b.jpg"]
    report, _ = run(scene, conf, None)
    assert report.extracted == ["a.png"]  # b has been extracted without a mask


def test_a_mask_of_another_size_costs_its_image_and_says_why(scene: Path) -> None:
    Image.new("L", (80, 60), 255).save(scene / "masks/a.png.png")
    report, found = run(scene, conf_of("sift", 60), scene / "masks")
    assert list(found) == ["b.jpg"]
    reason = report.skipped["a.png"]
    for part in (str(scene / "masks/a.png.png"), "80x60", "160x120"):
        assert part in reason


def test_unreadable_masks_and_wrong_folders_are_named(scene: Path) -> None:
    (scene / "masks/a.png.png").write_text("no picture")
    report, _ = run(scene, conf_of("sift", 60), scene / "masks")
    assert str(scene / "masks/a.png.png") in report.skipped["a.png"]
    for folder, message in ((scene / "none", "no such folder"), (scene, "holds no mask of any of the 2 images")):
        with pytest.raises(ConfigurationError, match=message):
            run(scene, conf_of("sift", 60), folder)


def test_the_command(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["extract", "--image_dir", str(scene / "images"), "--export_dir", str(scene / "out"), "--conf", "sift"]
    assert main([*command, "--masks", str(scene / "masks")]) == 0
    with FeatureStore(scene / "out/feats-sift.h5") as store:
        assert store.keypoints("a.png")[:, 0].min() >= 79.5
    assert main([*command, "--masks", str(scene / "masks"), "--engine", "hloc"]) == 1
    assert "error: " in capsys.readouterr().err


def test_names_of_masks(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/x.jpg.png", "a/x.png", "y.png"):
        (tmp_path / name).touch()
    masks = Masks(tmp_path)
    assert masks.path("a/x.jpg") == tmp_path / "a/x.jpg.png"  # COLMAP's name comes first
    assert masks.path("y.v2.jpg") is None
    assert masks.path("y.JPG") == tmp_path / "y.png"
    assert masks.missing(["z.jpg", "y.jpg"]) == ["z.jpg"]


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(o, False) for o in range(1, 9)] + [(o, True) for o in range(5, 9)],  # below 5, sizes do not tell them apart
)
def test_masks_of_turned_photographs(tmp_path: Path, orientation: int, turned: bool) -> None:
    """COLMAP's masks are of the pixels as stored; those of a program that turns photographs are recognised by size."""
    stored = np.random.default_rng(0).integers(0, 2, (5, 7), dtype=np.uint8) * 255
    upright: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = UPRIGHT[orientation]
    Image.fromarray(np.ascontiguousarray(upright(stored) if turned else stored)).save(tmp_path / "x.png")
    image = DecodedImage(np.ascontiguousarray(upright(stored)), orientation)
    assert_array_equal(Masks(tmp_path).read("x.jpg", image), stored > 0)


def test_sizes_that_fit_neither_way_are_refused(tmp_path: Path) -> None:
    Image.new("L", (7, 6)).save(tmp_path / "x.png")
    with pytest.raises(ImageError, match=r"x\.png: the mask has 7x6 pixels, but its image x.jpg has 7x5"):
        Masks(tmp_path).read("x.jpg", DecodedImage(np.zeros((5, 7), np.uint8)))


@given(
    keypoints=arrays(np.float32, st.tuples(st.integers(0, 40), st.just(2)), elements=st.floats(-0.5, 6.5, width=32)),
    count=st.integers(0, 50),
)
def test_every_keypoint_is_judged_by_the_pixel_it_lies_on(keypoints: NDArray[np.float32], count: int) -> None:
    mask = np.random.default_rng(1).random((7, 7)) > 0.5
    scores = np.random.default_rng(2).integers(0, 4, len(keypoints)).astype(np.float32)
    features = Features(keypoints, scores, np.arange(len(keypoints), dtype=np.float32)[:, None])
    kept = allowed(features, mask)
    judged = [i for i, (x, y) in enumerate(keypoints) if mask[min(6, max(0, round(y))), min(6, max(0, round(x)))]]
    assert kept.descriptors[:, 0].tolist() == judged
    best = fewer(kept, count)
    assert len(best) == min(count, len(kept))
    assert best.descriptors[:, 0].tolist() == sorted(best.descriptors[:, 0])  # the order stays
    dropped = set(kept.descriptors[:, 0]) - set(best.descriptors[:, 0])
    assert not dropped or scores[[int(i) for i in dropped]].max() <= best.scores.min(initial=np.inf)


def test_transparency_is_a_mask(tmp_path: Path, texture: Texture) -> None:
    """No keypoint where an image is transparent or ends; with a mask besides, both count."""
    alpha = np.zeros((120, 160), np.uint8)
    alpha[20:100, 30:130] = 255
    colors = np.dstack([np.repeat(texture(0)[..., None], 3, axis=2), alpha])
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    Image.fromarray(colors).save(tmp_path / "images/a.png")
    upper = np.zeros((120, 160), np.uint8)
    upper[:60] = 255
    Image.fromarray(upper).save(tmp_path / "masks/a.png")
    report, found = run(tmp_path, conf_of("posfeat-small", 500), None)
    x, y = found["a.png"].keypoints.T
    assert len(x) > 100
    assert x.min() >= 31.5
    assert x.max() <= 127.5
    assert y.min() >= 21.5
    assert y.max() <= 97.5
    assert "transparent pixels were made black and get no keypoints" in report.notes["a.png"]
    (tmp_path / "f.h5").unlink()
    both = run(tmp_path, conf_of("posfeat-small", 500), tmp_path / "masks")[1]["a.png"]
    assert 30 < len(both) < len(x)
    assert both.keypoints[:, 1].max() < 60


def test_a_turned_transparent_picture(tmp_path: Path, texture: Texture) -> None:
    alpha = np.zeros((120, 160), np.uint8)
    alpha[:, 80:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    colors = np.dstack([np.repeat(texture(0)[..., None], 3, axis=2), alpha])
    (tmp_path / "images").mkdir()
    Image.fromarray(colors).save(tmp_path / "images/a.png", exif=exif)
    keypoints = run(tmp_path, conf_of("sift", 500), None)[1]["a.png"].keypoints
    assert len(keypoints) > 20
    assert keypoints[:, 0].min() > 81  # in the pixels as stored


def test_features_of_an_extractor_that_spreads_are_spread_after_masking() -> None:
    rng = np.random.default_rng(0)
    features = Features(
        (rng.random((300, 2)) * 50).astype(np.float32),
        rng.random(300).astype(np.float32),
        np.arange(300, dtype=np.float32)[:, None],
    )
    kept = fewer(features, 60, spread_over=640 * 480)
    assert kept.descriptors[:, 0].tolist() == sorted(spread(features.keypoints, features.scores, 60))
    assert kept.descriptors[:, 0].tolist() != fewer(features, 60).descriptors[:, 0].tolist()
    assert fewer(features, None, spread_over=640 * 480) is features
