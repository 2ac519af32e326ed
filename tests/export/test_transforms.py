"""transforms.json, read back with nothing but its published convention, against COLMAP's own projection."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from PIL import Image

from posfeat_hloc.__main__ import main
from posfeat_hloc.errors import ConfigurationError, MappingError
from posfeat_hloc.export import ExportOptions, export
from posfeat_hloc.export.transforms import intrinsics_of
from posfeat_hloc.sfm.models import read_model

Array = NDArray[np.float64]

PARAMS = {
    "SIMPLE_PINHOLE": [500.0, 330, 240],
    "PINHOLE": [500.0, 510, 330, 240],
    "SIMPLE_RADIAL": [500.0, 330, 240, -0.1],
    "RADIAL": [500.0, 330, 240, -0.1, 0.02],
    "OPENCV": [500.0, 510, 330, 240, -0.1, 0.02, 0.003, -0.002],
    "SIMPLE_RADIAL_FISHEYE": [500.0, 330, 240, -0.1],
    "RADIAL_FISHEYE": [500.0, 330, 240, -0.1, 0.02],
    "OPENCV_FISHEYE": [500.0, 510, 330, 240, -0.1, 0.02, 0.003, -0.002],
}


def write_model(folder: Path, camera: str = "OPENCV", cameras: int = 1) -> tuple[Path, Path]:
    """A model of four images with its photographs (empty files), one name with a space and a folder."""
    options = pycolmap.SyntheticDatasetOptions(num_rigs=cameras, num_cameras_per_rig=1, num_frames_per_rig=4 // cameras,
                                               num_points3D=30)  # fmt: skip
    model = pycolmap.synthesize_dataset(options)
    for number, image in enumerate(sorted(model.images.values(), key=lambda i: i.image_id)):
        image.name = f"left side/{number}.jpg"
        (folder / "photos" / image.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / image.name).touch()
    for number, found in enumerate(model.cameras.values()):
        found.model = pycolmap.CameraModelId.__members__[camera]
        found.params = [PARAMS[camera][0] + number, *PARAMS[camera][1:]]
        found.width, found.height = 660, 480
    (folder / "sparse/0").mkdir(parents=True)
    model.write(folder / "sparse/0")
    return folder / "sparse/0", folder / "photos"


def project(frame: dict[str, Any], points: Array) -> Array:
    """By the published convention: OpenGL axes, OpenCV's two camera models; points behind the camera give NaN."""
    world_from_camera = np.array(frame["transform_matrix"])
    local = (points - world_from_camera[:3, 3]) @ world_from_camera[:3, :3]
    right, up, backwards = local.T
    x, y = right / -backwards, -up / -backwards
    k1, k2 = frame["k1"], frame["k2"]
    square = x**2 + y**2
    if frame["camera_model"] == "OPENCV":
        p1, p2 = frame["p1"], frame["p2"]
        radial = 1 + k1 * square + k2 * square**2
        x, y = (
            x * radial + 2 * p1 * x * y + p2 * (square + 2 * x**2),
            y * radial + 2 * p2 * x * y + p1 * (square + 2 * y**2),
        )
    else:
        angle = np.arctan(np.sqrt(square))
        bent = angle * (1 + k1 * angle**2 + k2 * angle**4 + frame["k3"] * angle**6 + frame["k4"] * angle**8)
        x, y = x * bent / np.sqrt(square), y * bent / np.sqrt(square)
    places = np.stack([frame["fl_x"] * x + frame["cx"], frame["fl_y"] * y + frame["cy"]], axis=1)
    places[backwards >= 0] = np.nan
    return places


def read_ply(path: Path) -> tuple[Array, Array]:
    """Points and colors of a binary PLY file, whatever the order of its properties."""
    header, _, content = path.read_bytes().partition(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = int(next(line for line in lines if line.startswith("element vertex")).split()[2])
    kinds = {"float": "<f4", "double": "<f8", "uchar": "u1"}
    names = re.findall(r"property (\w+) (\w+)", header.decode())
    rows = np.frombuffer(content, [(name, kinds[kind]) for kind, name in names], count)
    columns = [
        np.stack([rows[name] for name in part], axis=1).astype(float) for part in ("xyz", ("red", "green", "blue"))
    ]
    return columns[0], columns[1]


@pytest.mark.parametrize("camera", PARAMS)
def test_every_point_projects_where_colmap_projects_it(tmp_path: Path, camera: str) -> None:
    model, photos = write_model(tmp_path, camera)
    (path,) = export(model, ["transforms"], tmp_path / "out", photos)
    values = json.loads(path.read_text())
    points, _ = read_ply(tmp_path / "out" / values["ply_file_path"])
    expected = read_model(model)
    applied = np.array(values["applied_transform"])
    original = np.array([point.xyz for point in expected.points3D.values()])
    there = original @ applied[:, :3].T + applied[:, 3]
    assert_allclose(points[np.lexsort(points.T)], there[np.lexsort(np.float32(there).T)], atol=1e-5)
    assert_allclose(applied[:, :3] @ applied[:, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(applied[:, :3]) > 0
    assert values["camera_model"] == ("OPENCV_FISHEYE" if "FISHEYE" in camera else "OPENCV")
    images = {image.name: image for image in expected.images.values()}
    assert len(values["frames"]) == len(images) == 4
    seen = 0
    for frame in values["frames"]:
        target = (path.parent / frame["file_path"]).resolve()
        assert target.is_file()
        image = images[target.relative_to(photos.resolve()).as_posix()]
        found = project({**values, **frame}, there)
        local = image.cam_from_world() * original
        wanted = np.asarray(expected.cameras[image.camera_id].img_from_cam(local))
        front = (local[:, 2] > 0.1) & np.isfinite(wanted).all(axis=1) & (np.abs(wanted - 300) < 1000).all(axis=1)
        assert_allclose(found[front], wanted[front], atol=1e-6)
        seen += int(front.sum())
    assert seen > 40


def test_cameras_that_differ_are_said_frame_by_frame(tmp_path: Path) -> None:
    model, photos = write_model(tmp_path, "RADIAL", cameras=2)
    (path,) = export(model, ["transforms"], tmp_path, photos)
    values = json.loads(path.read_text())
    assert "fl_x" not in values
    assert sorted(frame["fl_x"] for frame in values["frames"]) == [500, 500, 501, 501]
    assert {(frame["w"], frame["h"], frame["camera_model"]) for frame in values["frames"]} == {(660, 480, "OPENCV")}


def test_fisheye_and_perspective_cameras_are_not_mixed(tmp_path: Path) -> None:
    folder, photos = write_model(tmp_path, "OPENCV", cameras=2)
    model = read_model(folder)
    model.cameras[1].model = pycolmap.CameraModelId.OPENCV_FISHEYE
    model.write(folder)
    with pytest.raises(MappingError, match="cannot mix perspective and fisheye"):
        export(folder, ["transforms"], tmp_path, photos)


def test_every_frame_has_a_mask_where_one_has(tmp_path: Path) -> None:
    model, photos = write_model(tmp_path)
    (tmp_path / "masks/left side").mkdir(parents=True)
    Image.new("L", (660, 480), 0).save(tmp_path / "masks/left side/1.png")
    (path,) = export(model, ["transforms"], tmp_path / "out", photos, ExportOptions(tmp_path / "masks"))
    frames = json.loads(path.read_text())["frames"]
    found = {Path(frame["file_path"]).stem: path.parent / frame["mask_path"] for frame in frames}
    assert found["1"].resolve() == (tmp_path / "masks/left side/1.png").resolve()
    assert all(Image.open(found[stem]).getextrema() == (255, 255) for stem in "023")
    with pytest.raises(ConfigurationError, match="holds no mask"):
        export(model, ["transforms"], tmp_path / "out", photos, ExportOptions(photos))


def test_other_distortions_are_refused() -> None:
    camera = pycolmap.Camera.create_from_model_name(1, "FULL_OPENCV", 500.0, 660, 480)
    with pytest.raises(MappingError, match="no camera model like FULL_OPENCV"):
        intrinsics_of(camera)


def test_text_and_ply_hold_the_model(tmp_path: Path) -> None:
    model, _ = write_model(tmp_path)
    assert export(model, ["text", "ply"], tmp_path / "out") == [tmp_path / "out/text", tmp_path / "out/points.ply"]
    one, other = read_model(model), read_model(tmp_path / "out/text")
    assert sorted(i.name for i in other.images.values()) == sorted(i.name for i in one.images.values())
    for number, point in one.points3D.items():
        assert_allclose(other.points3D[number].xyz, point.xyz)
        assert len(other.points3D[number].track.elements) == len(point.track.elements)
    points, colors = read_ply(tmp_path / "out/points.ply")
    xyz = np.array([point.xyz for point in one.points3D.values()])
    assert_allclose(points[np.lexsort(points.T)], xyz[np.lexsort(np.float32(xyz).T)], atol=1e-5)
    assert colors.shape == points.shape


def test_the_command_finds_model_and_photographs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, photos = write_model(tmp_path)
    (tmp_path / "summary.json").write_text(json.dumps({"command": {"images": str(photos)}}))
    assert main(["export", str(tmp_path)]) == 0
    out = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert out == [tmp_path / "export" / name for name in ("text", "points.ply", "transforms.json")]
    assert main(["export", str(model), "--format", "transforms", "--output", str(tmp_path / "other")]) == 0
    frame = json.loads((tmp_path / "other/transforms.json").read_text())["frames"][0]
    assert frame["file_path"] == "../photos/left side/0.jpg"


def test_what_was_written_is_said_before_the_next_format_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, photos = write_model(tmp_path)
    shutil.rmtree(photos)
    assert main(["export", str(model), "--images", str(photos)]) == 1
    said = capsys.readouterr()
    assert [Path(line).name for line in said.out.splitlines()] == ["text", "points.ply"]
    assert "does not hold 'left side/0.jpg'" in said.err


def test_what_is_wrong_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, photos = write_model(tmp_path)
    (tmp_path / "none").mkdir()
    for arguments, message in (
        ([tmp_path / "none"], "no COLMAP model"),
        ([model, "--format", "transforms"], "--images"),
        ([model, "--format", "transforms", "--images", tmp_path], "does not hold 'left side/0.jpg' (4 of the 4"),
    ):
        assert main(["export", *map(str, arguments)]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert message in error
    assert not (model / "export").joinpath("transforms.json").exists()
    shutil.rmtree(photos)
    with pytest.raises(ConfigurationError, match="no format 'obj'"):
        export(model, ["obj"], tmp_path)
