"""The vote of a whole collection, on rendered pictures: what is turned, what is not, and what the next run does."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posfeat_hloc import confs
from posfeat_hloc.__main__ import main
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.features import View
from posfeat_hloc.images.decoding import list_images
from posfeat_hloc.orientation import Orientation, choose_views
from posfeat_hloc.orientation.choice import stands_every_turn
from posfeat_hloc.stores import FeatureStore
from tests.rendering import arc, render

SMALL = confs.extractors["posfeat-small"]["model"]

HELD = {"0.png": 0, "1.png": 270, "2.png": 0, "3.png": 180, "4.png": 0}
"""Degrees clockwise by which images are turned before they are saved."""


def save(picture: np.ndarray, path: Path, turned: int = 0) -> None:
    Image.fromarray(np.ascontiguousarray(np.rot90(picture, -turned // 90))).save(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for view, (name, turned) in zip(arc(9)[2:7], HELD.items(), strict=True):
        save(render(view), folder / name, turned)
    return folder


def choose(folder: Path, path: Path, **options: object) -> Orientation:
    return choose_views("auto", SMALL, folder, list_images(folder), path, device="cpu", progress=False, **options)


@pytest.fixture(scope="module")
def voted(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Orientation]:
    path = tmp_path_factory.mktemp("voted") / "orientation.h5"
    return path, choose(photos, path)


def test_pictures_are_turned_back(voted: tuple[Path, Orientation]) -> None:
    path, found = voted
    assert found.rotated == {"1.png": 90, "3.png": 180}
    assert found.resized == {}
    assert found.looked == 5 + 3 * 2  # in all turns only those that agree with no other
    assert found.remarks()["turned"].startswith("1 image by 90°, 1 image by 180°")
    assert not path.with_name("orientation.partial").exists()
    with FeatureStore(path) as store:
        assert {name: store.view(name).rotation for name in HELD} == {
            name: -turned % 360 for name, turned in HELD.items()
        }


def test_the_next_run_keeps_what_was_decided(photos: Path, voted: tuple[Path, Orientation], tmp_path: Path) -> None:
    path = shutil.copy(voted[0], tmp_path / "orientation.h5")
    again = choose(photos, path)
    assert (again.looked, again.views) == (0, voted[1].views)


def test_a_new_picture_follows_the_others(photos: Path, voted: tuple[Path, Orientation], tmp_path: Path) -> None:
    path = shutil.copy(voted[0], tmp_path / "orientation.h5")
    more = Path(shutil.copytree(photos, tmp_path / "photos"))
    save(render(arc(9)[3]), more / "5.png", 90)
    found = choose(more, path)
    assert found.rotated == {"1.png": 90, "3.png": 180, "5.png": 270}
    assert found.looked == 6 + 3


def test_a_wrong_tag_is_found_and_a_right_one_kept(tmp_path: Path) -> None:
    for number, view in enumerate(arc(9)[2:6]):
        exif = Image.Exif()
        exif[0x0112] = 8 if number == 1 else 6 if number == 2 else 1
        picture = np.rot90(render(view), 1) if number == 2 else render(view)
        Image.fromarray(np.ascontiguousarray(picture)).save(tmp_path / f"{number}.png", exif=exif)
    found = choose(tmp_path, tmp_path / "out/orientation.h5")
    assert found.rotated == {"1.png": 90}
    assert choose_views("exif", SMALL, tmp_path, ["0.png", "1.png"], tmp_path / "x.h5") == Orientation()
    assert choose_views("none", SMALL, tmp_path, ["0.png", "1.png"], tmp_path / "x.h5") == Orientation(exif=False)
    assert not (tmp_path / "x.h5").exists()


@pytest.mark.slow
def test_strangers_and_blanks_stay(tmp_path: Path) -> None:
    save(render(arc(9)[4]), tmp_path / "a.png")
    save(render(arc(9)[4], seed=3), tmp_path / "b.png", 90)
    Image.new("L", (300, 200), 90).save(tmp_path / "c.png")
    (tmp_path / "d.jpg").write_text("no picture")
    assert choose(tmp_path, tmp_path / "orientation.h5").views == {}


@pytest.fixture(scope="module")
def near_and_far(tmp_path_factory: pytest.TempPathFactory) -> Orientation:
    """Two images of a scene, and a part of it at twice the size that lies upside down."""
    tmp_path = tmp_path_factory.mktemp("near")
    far = np.asarray(Image.fromarray(render(arc(9)[4])).resize((1200, 900), Image.Resampling.LANCZOS))
    save(far, tmp_path / "0.png")
    save(far[:, 20:], tmp_path / "1.png")
    near = Image.fromarray(far[250:650, 350:880]).resize((1060, 800), Image.Resampling.LANCZOS)
    save(np.asarray(near), tmp_path / "2.png", 180)
    return choose(tmp_path, tmp_path / "orientation.h5")


def test_a_picture_from_near_gets_a_second_size(near_and_far: Orientation) -> None:
    assert {name: view.second for name, view in near_and_far.views.items()} == {"2.png": 0.5}
    assert "1 image at 0.5 times the size" in near_and_far.remarks()["second size"]


def test_a_picture_from_near_is_turned(near_and_far: Orientation) -> None:
    assert near_and_far.views["2.png"] == View(180, 0.5)


def test_features_that_stand_every_turn_need_no_vote(photos: Path, tmp_path: Path) -> None:
    standing = {name for name, conf in confs.extractors.items() if stands_every_turn(conf["model"])}
    assert standing == {"sift", "sift-hardnet", "sift-sosnet"}
    model = confs.extractors["sift"]["model"]
    assert choose_views("auto", model, photos, list(HELD), tmp_path / "o.h5") == Orientation()


def test_a_mode_that_does_not_exist(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="must be auto, exif, none, not 'upright'"):
        choose_views("upright", SMALL, photos, list(HELD), tmp_path / "o.h5")


def test_extract_records_turns_and_does_not_extract_again(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["extract", "--image_dir", str(photos), "--export_dir", str(tmp_path), "--device", "cpu"]
    command += ["--orientation", "auto"]
    assert main(command) == 0
    assert "turned: 1 image by 90°, 1 image by 180°" in capsys.readouterr().out
    path = tmp_path / "feats-posfeat-small.h5"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with FeatureStore(path) as store:
        before = {name: (store.view(name).rotation, store.digest(name)) for name in HELD}
        assert store.image_size("1.png") == (300, 400)
    assert {name: turn for name, (turn, _) in before.items()} == {name: -turn % 360 for name, turn in HELD.items()}
    assert main(command) == 0
    assert "0 extracted, 5 kept" in capsys.readouterr().out
    with FeatureStore(path) as store:
        assert {name: (store.view(name).rotation, store.digest(name)) for name in HELD} == before


def test_a_damaged_file_is_made_again(photos: Path, voted: tuple[Path, Orientation], tmp_path: Path) -> None:
    path = tmp_path / "orientation.h5"
    path.write_bytes(b"no HDF5 file" * 100)
    assert choose(photos, path).views == voted[1].views
    assert choose(photos, path).looked == 0


def test_masks_of_some_images_are_used_where_they_are(
    photos: Path, voted: tuple[Path, Orientation], tmp_path: Path
) -> None:
    """The images that are looked at again may be those without a mask."""
    Image.new("L", (400, 300), 255).save(tmp_path / "0.png")
    assert choose(photos, tmp_path / "out/orientation.h5", masks=tmp_path).views == voted[1].views
