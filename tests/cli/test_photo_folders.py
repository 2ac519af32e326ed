"""The command on folders as people have them: results inside, other kinds of files, formats COLMAP cannot read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines import sfm
from posfeat_hloc.evaluation.poses import TrueCamera, pose_errors
from posfeat_hloc.sfm.models import read_model
from tests.rendering import FOCAL, write_scene
from tests.room import fisheye_rays, panorama_rays, write_room

pytestmark = pytest.mark.slow


def run(images: Path, output: Path | None, *arguments: object) -> int:
    where = [] if output is None else ["--output", str(output)]
    return sfm.main(
        [
            "--images",
            str(images),
            *where,
            "--feature",
            "sift",
            "--max-keypoints",
            "1500",
            "--quiet",
            *map(str, arguments),
        ]
    )


def summary(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "summary.json").read_text())
    return found


def test_a_second_run_does_not_see_the_first_ones_pictures(tmp_path: Path) -> None:
    write_scene(tmp_path, 4)
    (tmp_path / "notes.txt").touch()
    for attempt in ("first", "second"):
        assert run(tmp_path, tmp_path / "outputs" / attempt) == 0
        Image.new("L", (40, 30)).save(tmp_path / "outputs" / attempt / "plot.png")
        found = summary(tmp_path / "outputs" / attempt)
        assert found["images"] == found["registered"] == 4
        assert found["remarks"]["other files"] == "1 file of other kinds ignored: 1 .txt"
    assert found["remarks"]["left out"] == "1 image in outputs/first (results of a run)"


def test_two_sizes_of_the_same_photographs_are_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scene(tmp_path / "images", 3)
    (tmp_path / "images_2").mkdir()
    for path in (tmp_path / "images").iterdir():
        with Image.open(path) as picture:
            picture.reduce(2).save(tmp_path / "images_2" / path.name)
    assert run(tmp_path, tmp_path / "results") == 1
    assert "images and images_2 hold the same 3 photographs" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
    assert run(tmp_path / "images_2", tmp_path / "results") == 0


def truth_of(cameras: dict[str, Any]) -> dict[str, TrueCamera]:
    return {name: TrueCamera(rotation, centre) for name, (rotation, centre) in cameras.items()}


def test_a_fisheye_lens_of_170_degrees(tmp_path: Path) -> None:
    """Without EXIF and without a hint of the focal length."""
    focal = 400 / np.radians(170)
    cameras = write_room(tmp_path / "photos", fisheye_rays(400, focal), 4)
    output = tmp_path / "out"
    assert run(tmp_path / "photos", output, "--camera", "single", "--camera-model", "OPENCV_FISHEYE") == 0
    assert summary(output)["registered"] == 4
    found = read_model(output / "sparse/0")
    assert next(iter(found.cameras.values())).mean_focal_length() == pytest.approx(focal, rel=0.02)
    errors = pose_errors(found, truth_of(cameras))
    assert errors.rotation.max() < 0.5
    assert errors.position.max() < 0.05


def test_panoramas_are_taken_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cameras = write_room(tmp_path / "photos", panorama_rays(640), 4)
    output = tmp_path / "out"
    assert run(tmp_path / "photos", output, "--export", "transforms") == 1
    assert "transforms.json has no camera model like EQUIRECTANGULAR" in capsys.readouterr().err
    assert not (output / "features.h5").exists()  # said before the work
    assert run(tmp_path / "photos", output, "--export", "text", "ply") == 0
    found = summary(output)
    assert (found["registered"], found["verified_pairs"]) == (4, 6)
    assert "--camera-model EQUIRECTANGULAR" in found["remarks"]["panoramas"]
    assert "camera" not in found["remarks"]
    model = read_model(output / "sparse/0")
    assert {camera.model_name for camera in model.cameras.values()} == {"EQUIRECTANGULAR"}
    errors = pose_errors(model, truth_of(cameras))
    assert errors.rotation.max() < 0.3
    assert errors.position.max() < 0.03


def test_two_photographs_are_a_model(tmp_path: Path) -> None:
    cameras = write_scene(tmp_path / "photos", 6)
    for name in sorted(cameras)[:2] + sorted(cameras)[4:]:
        (tmp_path / "photos" / name).unlink()
    assert run(tmp_path / "photos", tmp_path / "out", "--camera-params", FOCAL, "--fix-camera") == 0
    found = summary(tmp_path / "out")
    assert found["registered"] == 2
    assert found["model"]["points"] > 100
    model = read_model(tmp_path / "out/sparse/0")
    first, second = (model.find_image_with_name(name) for name in sorted(cameras)[2:4])
    relative = first.cam_from_world() * second.cam_from_world().inverse()
    true = cameras[first.name].rotation @ cameras[second.name].rotation.T
    assert np.degrees(np.arccos((np.trace(relative.rotation.matrix().T @ true) - 1) / 2)) < 0.3


def test_one_view_twice_is_no_model_and_no_wrong_focal_length(tmp_path: Path) -> None:
    write_scene(tmp_path / "photos", 1)
    shutil.copy(tmp_path / "photos/view_00.png", tmp_path / "photos/again.png")
    assert run(tmp_path / "photos", tmp_path / "out") == 1
    assert {cause["name"] for cause in summary(tmp_path / "out")["likely_causes"]} == {"pure rotation"}


def test_results_of_other_photographs_are_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                         capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for place in ("a", "b"):
        write_scene(tmp_path / place / "images", 3, seed=ord(place))
    assert run(Path("a/images"), None) == 0
    before = (tmp_path / "outputs/images/sparse/0/points3D.bin").read_bytes()
    assert run(Path("b/images"), None) == 1
    told = capsys.readouterr().err
    assert str(tmp_path / "a/images") in told
    assert str(tmp_path / "b/images") in told
    assert "--output outputs/b-images" in told
    assert (tmp_path / "outputs/images/sparse/0/points3D.bin").read_bytes() == before
    assert run(Path("a/images"), None) == 0


def test_webp_gives_the_colors_and_the_camera_of_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Phone"
    exif.get_ifd(0x8769)[0xA405] = 38
    for ending, options in (("jpg", {"quality": 95, "subsampling": 0}), ("webp", {"lossless": True})):
        write_scene(tmp_path / "png", 4)
        (tmp_path / ending).mkdir()
        for path in sorted((tmp_path / "png").iterdir()):
            with Image.open(path) as picture:
                tinted = Image.merge("RGB", [picture, picture.point(lambda v: v // 2), picture.point(lambda _: 40)])
                tinted.save(tmp_path / ending / f"{path.stem}.{ending}", exif=exif, **options)
        assert run(tmp_path / ending, tmp_path / f"out_{ending}") == 0
    models = [read_model(tmp_path / f"out_{ending}/sparse/0") for ending in ("jpg", "webp")]
    for model in models:
        assert len(model.cameras) == 1  # one device, one focal length
        colors = np.array([point.color for point in model.points3D.values()], float)
        assert colors[:, 0].mean() > 60  # black, where COLMAP cannot decode
        assert np.abs(colors[:, 1] - colors[:, 0] / 2).mean() < 6
        assert np.abs(colors[:, 2] - 40).mean() < 6
    focals = [next(iter(model.cameras.values())).focal_length for model in models]
    assert focals[0] == pytest.approx(focals[1], rel=0.01)
