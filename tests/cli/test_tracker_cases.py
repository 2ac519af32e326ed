"""Situations that users of other tools reported to public trackers, each with the right outcome.

``benchmarks/results/robustness.md`` lists them with the reports.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from pipelines import sfm
from posfeat_hloc.evaluation.poses import TrueCamera, pose_errors
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.sfm.pairs import exhaustive_pairs
from posfeat_hloc.stores.pairs import read_pairs
from tests.rendering import View, render, write_scene

pytestmark = pytest.mark.slow

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, View]]:
    folder = tmp_path_factory.mktemp("scene")
    return folder, write_scene(folder, 6)


def run(photos: Path, output: Path, *arguments: object) -> dict[str, Any]:
    given = [
        "--images",
        photos,
        "--output",
        output,
        "--feature",
        "sift",
        "--max-keypoints",
        2000,
        "--quiet",
        *arguments,
    ]
    sfm.main([str(part) for part in given])
    found: dict[str, Any] = json.loads((output / "summary.json").read_text())
    return found


def rotation_error(output: Path, cameras: dict[str, View]) -> float:
    truth = {name: TrueCamera(view.rotation, view.centre) for name, view in cameras.items()}
    return float(pose_errors(read_model(output / "sparse/0"), truth).rotation.max())


def test_folders_of_macs_with_broken_files_and_damaged_exif(
    scene: tuple[Path, dict[str, View]], tmp_path: Path
) -> None:
    """``._`` files beside the photographs, a cut one, focal lengths of 0 and 5/0, in a folder ``Dossiers triés``."""
    photos = tmp_path / "Dossiers triés, été"
    shutil.copytree(scene[0], photos)
    for number, focal in ((0, 0.0), (1, IFDRational(5, 0)), (2, IFDRational(0, 0))):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x920A] = focal
        path = photos / f"view_0{number}.png"
        with Image.open(path) as image:
            image.load()
            image.save(path, exif=exif)
    (photos / "._view_00.png").write_bytes(b"\\x00\\x05\\x16\\x07 resource fork")
    (photos / "cut.jpg").write_bytes((photos / "view_03.png").read_bytes()[:3000])
    found = run(photos, tmp_path / "out")
    assert (found["registered"], list(found["skipped"])) == (6, ["cut.jpg"])
    assert found["images"] == 7
    assert rotation_error(tmp_path / "out", scene[1]) < 0.3


def test_names_with_spaces_survive_the_text_model(scene: tuple[Path, dict[str, View]], tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    cameras = {f"map plan (402) {i}.png": view for i, view in enumerate(scene[1].values())}
    for new, old in zip(cameras, scene[1], strict=True):
        shutil.copy(scene[0] / old, photos / new)
    assert run(photos, tmp_path / "out", "--export", "text", "transforms")["registered"] == 6
    assert {i.name for i in read_model(tmp_path / "out/export/text").images.values()} == set(cameras)
    frames = json.loads((tmp_path / "out/export/transforms.json").read_text())["frames"]
    assert all((tmp_path / "out/export" / frame["file_path"]).is_file() for frame in frames)


def test_one_camera_held_upright_and_on_its_side(scene: tuple[Path, dict[str, View]], tmp_path: Path) -> None:
    """Portrait images are stored as landscape with a tag, so that ``--camera single`` stays one camera."""
    photos = tmp_path / "photos"
    photos.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 1
    for name in scene[1]:
        shutil.copy(scene[0] / name, photos / name)
    for name in ("view_01.png", "view_04.png"):
        exif[0x0112] = 8
        with Image.open(photos / name) as image:
            image.load()
            image.transpose(Image.Transpose.ROTATE_270).save(photos / name, exif=exif)
    found = run(photos, tmp_path / "out")
    assert found["registered"] == 6
    sizes = {(camera.width, camera.height) for camera in read_model(tmp_path / "out/sparse/0").cameras.values()}
    assert sizes == {(400, 300), (300, 400)}
    upright = {name: view for name, view in scene[1].items() if name not in ("view_01.png", "view_04.png")}
    assert rotation_error(tmp_path / "out", upright) < 0.3


def test_grey_16_bit_and_color_files_of_one_scene(scene: tuple[Path, dict[str, View]], tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i, name in enumerate(scene[1]):
        grey = cv2.imread(str(scene[0] / name), cv2.IMREAD_GRAYSCALE)
        if i % 3 == 0:
            cv2.imwrite(str(photos / f"{name}.jpg"), cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
        elif i % 3 == 1:
            cv2.imwrite(str(photos / f"{name}.tif"), grey.astype(np.uint16) * 257)
        else:
            shutil.copy(scene[0] / name, photos / f"{name}.png")
    assert run(photos, tmp_path / "out")["registered"] == 6


def test_a_video_without_motion_says_so(tmp_path: Path) -> None:
    """The camera turns a little and comes back: every image is the same place."""
    photos = tmp_path / "photos"
    write_scene(photos, 1)
    view = photos / "view_00.png"
    for i in range(1, 4):
        shutil.copy(view, photos / f"view_0{i}.png")
    found = run(photos, tmp_path / "out", "--pairs", "sequential")
    assert found["registered"] == 0
    assert [cause["name"] for cause in found["likely_causes"]] == ["same image"]
    assert "move between them" in found["likely_causes"][0]["remedies"]


def test_a_closed_loop_of_pictures_of_one_object_and_copies(
    scene: tuple[Path, dict[str, View]], tmp_path: Path
) -> None:
    """Two copies of one photograph under other names stand at one place and spoil nothing."""
    photos = tmp_path / "photos"
    shutil.copytree(scene[0], photos)
    shutil.copy(photos / "view_02.png", photos / "view_02 (1).png")
    shutil.copy(photos / "view_02.png", photos / "Kopie.png")
    found = run(photos, tmp_path / "out")
    assert found["registered"] == 8
    cameras = {**scene[1], "view_02 (1).png": scene[1]["view_02.png"], "Kopie.png": scene[1]["view_02.png"]}
    assert rotation_error(tmp_path / "out", cameras) < 0.3


def test_one_photograph_of_another_place_among_many(scene: tuple[Path, dict[str, View]], tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(scene[0], photos)
    Image.fromarray(render(next(iter(scene[1].values())), seed=7)).save(photos / "holiday.png")
    found = run(photos, tmp_path / "out")
    assert (found["registered"], list(found["unregistered"])) == (6, ["holiday.png"])
    assert found["likely_causes"][0]["name"] == "no verified pair"


def test_names_with_signs_in_a_folder_that_is_not_utf_8(scene: tuple[Path, dict[str, View]], tmp_path: Path) -> None:
    """Number signs, colons, quotes and angle brackets; every file names the photographs as they are called."""
    photos = tmp_path / "fold\udce9r" / "photos"
    names = ["#1 a.png", "b:2.png", "c\"3'.png", "d<&>4.png"]
    originals = sorted(scene[1])[: len(names)]
    try:
        photos.mkdir(parents=True)
        for original, name in zip(originals, names, strict=True):
            shutil.copy(scene[0] / original, photos / name)
    except (OSError, UnicodeEncodeError) as error:
        pytest.skip(f"this file system has no such names ({error})")
    output = tmp_path / "fold\udce9r" / "out"
    run(photos, output, "--camera", "single", "--export", "text", "transforms")
    assert read_model(output / "sparse/0").num_reg_images() == 4
    cameras = {name: scene[1][original] for original, name in zip(originals, names, strict=True)}
    assert rotation_error(output, cameras) < 0.5
    frames = json.loads((output / "export/transforms.json").read_text(encoding="utf-8"))["frames"]
    found = [output / "export" / frame["file_path"] for frame in frames]
    assert [path.name for path in found] == names
    assert all(path.is_file() for path in found)
    assert sorted(image.name for image in read_model(output / "export/text").images.values()) == names
    assert read_pairs(output / "pairs.txt", names) == exhaustive_pairs(names)
    given = json.loads((output / "inputs.json").read_text(encoding="utf-8"))
    assert str(photos) in json.dumps(given, ensure_ascii=False)
