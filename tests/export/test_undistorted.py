"""Undistorted photographs: every pixel is where the model says, and pycolmap reads and undistorts every export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from posfeat_hloc.__main__ import main
from posfeat_hloc.errors import MappingError
from posfeat_hloc.export import FORMATS, ExportOptions, export, readable_by_colmap
from posfeat_hloc.sfm.models import read_model

WIDTH, HEIGHT = 250, 200
PARAMS = {
    "SIMPLE_PINHOLE": [200.0, 125, 100],
    "SIMPLE_RADIAL": [200.0, 125, 100, -0.1],
    "FULL_OPENCV": [200.0, 210, 128, 98, -0.1, 0.02, 0.003, -0.002, 0.01, 0, 0, 0],
    "OPENCV_FISHEYE": [120.0, 122, 126, 98, 0.02, 0.0, 0.0, 0.0],
}
NAMES = ("a/0.jpg", "a/1.png", "b/2.webp", "b/3.tif")
QUIET = ExportOptions(progress=False)


def scene(folder: Path, camera: str) -> tuple[Path, Path]:
    """A model whose photographs show in red where a pixel is in x, and in green where in y."""
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=4, num_points3D=150
    )
    options.camera_width, options.camera_height = WIDTH, HEIGHT
    options.camera_model_id = pycolmap.CameraModelId.__members__[camera]
    options.camera_params = PARAMS[camera]
    model = pycolmap.synthesize_dataset(options)
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    picture = Image.fromarray(np.stack([x, y, np.full_like(x, 90)], axis=2).astype(np.uint8))
    for name, (_, image) in zip(NAMES, sorted(model.images.items()), strict=True):
        image.name = name
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6 if name.endswith("jpg") else 1
        picture.save(path, exif=exif, **({"quality": 95, "subsampling": 0} if "jpg" in name else {"lossless": True}))
    (folder / "sparse/0").mkdir(parents=True)
    model.write(folder / "sparse/0")
    return folder / "sparse/0", folder / "photos"


@pytest.mark.parametrize("camera", PARAMS)
def test_pixels_are_where_the_model_says(tmp_path: Path, camera: str) -> None:
    model, photos = scene(tmp_path, camera)
    (folder,) = export(model, ["undistorted"], tmp_path / "out", photos, QUIET)
    before, after = read_model(model), read_model(folder / "sparse/0")
    assert {camera.model_name for camera in after.cameras.values()} == {"PINHOLE"}
    names = {image.image_id: image.name for image in after.images.values()}
    assert [names[i] for i in sorted(names)] == ["a/0.jpg", "a/1.png", "b/2.webp.png", "b/3.tif.png"]
    checked = 0
    for image_id, name in names.items():
        picture = Image.open(folder / "images" / name)
        assert picture.getexif().get(0x0112, 1) == 1
        pixels = np.asarray(picture).astype(float)
        size = after.cameras[after.images[image_id].camera_id]
        assert picture.size == (size.width, size.height)
        for old, new in zip(before.images[image_id].points2D, after.images[image_id].points2D, strict=True):
            column, row = np.round(new.xy - 0.5).astype(int)
            if not (new.has_point3D() and 2 < column < size.width - 3 and 2 < row < size.height - 3):
                continue
            # the neighbouring pixels tell how much a pixel of the undistorted image is in the photograph
            step = np.array([pixels[row, column + 1, :2] - pixels[row, column - 1, :2],
                             pixels[row + 1, column, :2] - pixels[row - 1, column, :2]]) / 2  # fmt: skip
            shown = pixels[row, column, :2] + (new.xy - 0.5 - [column, row]) @ step
            assert_allclose(shown, old.xy - 0.5, atol=4 if name.endswith("jpg") else 1.2)
            checked += 1
    assert checked > 100
    assert after.compute_mean_reprojection_error() < 1e-3


@pytest.mark.parametrize("camera", ["SIMPLE_RADIAL", "OPENCV_FISHEYE"])
def test_pycolmap_reads_and_undistorts_every_export(tmp_path: Path, camera: str) -> None:
    model, photos = scene(tmp_path, camera)
    written = dict(zip(FORMATS, export(model, FORMATS, tmp_path / "out", photos, QUIET), strict=True))
    for number, (sparse, images) in enumerate(
        [(written["text"], photos), (written["undistorted"] / "sparse/0", written["undistorted"] / "images")]
    ):
        found = pycolmap.Reconstruction(sparse)
        assert found.num_reg_images() == 4
        names = [name for name in NAMES if Path(name).suffix in (".jpg", ".png")]  # which pycolmap reads everywhere
        pycolmap.undistort_images(tmp_path / str(number), sparse, images, image_names=names)
        again = pycolmap.Reconstruction(tmp_path / str(number) / "sparse")
        assert {image.name for image in again.images.values() if image.has_pose} >= set(names)
        assert all((tmp_path / str(number) / "images" / name).is_file() for name in names)
        assert again.compute_mean_reprojection_error() < 1e-3
    cloud = pycolmap.Reconstruction()
    cloud.import_PLY(written["ply"])
    assert cloud.num_points3D() == read_model(model).num_points3D()


def test_masks_move_with_the_photographs(tmp_path: Path) -> None:
    model, photos = scene(tmp_path, "SIMPLE_RADIAL")
    right = np.zeros((HEIGHT, WIDTH), np.uint8)
    right[:, WIDTH // 2 :] = 255
    for name in ("a/0.jpg.png", "a/1.png"):
        (tmp_path / "masks/a").mkdir(parents=True, exist_ok=True)
        mask = Image.fromarray(right)
        if "jpg" in name:  # of the upright image, which is turned by a quarter clockwise
            mask = mask.transpose(Image.Transpose.ROTATE_270)
        mask.save(tmp_path / "masks" / name)
    options = ExportOptions(tmp_path / "masks", max_size=100, progress=False)
    (folder,) = export(model, ["undistorted"], tmp_path / "out", photos, options)
    for name, share in (("a/0.jpg", 0.5), ("a/1.png", 0.5), ("b/2.webp.png", 1), ("b/3.tif.png", 1)):
        mask = np.asarray(Image.open(folder / "masks" / f"{name}.png"))
        picture = np.asarray(Image.open(folder / "images" / name))
        assert mask.shape == picture.shape[:2]
        assert max(mask.shape) == 100
        assert set(np.unique(mask)) <= {0, 255}
        assert mask.mean() / 255 == pytest.approx(share, abs=0.02)
        assert (mask[:, -1] == 255).all()
    (path,) = export(model, ["transforms"], tmp_path / "out", photos, options)
    frames = json.loads(path.read_text())["frames"]
    found = {Path(frame["file_path"]).name: path.parent / frame["mask_path"] for frame in frames}
    for name in ("0.jpg", "1.png"):  # for the pixels as stored, which nerfstudio reads
        assert (np.asarray(Image.open(found[name])) == right).all()


def test_the_model_stands_upright_and_says_how_it_was_turned(tmp_path: Path) -> None:
    model, photos = scene(tmp_path, "SIMPLE_RADIAL")
    (folder,) = export(model, ["undistorted"], tmp_path / "turned", photos, QUIET)
    before, after = read_model(model), read_model(folder / "sparse/0")
    rotation = np.array(json.loads((folder / "turned.json").read_text())["rotation"])
    for point_id, point in before.points3D.items():
        assert_allclose(after.points3D[point_id].xyz, rotation @ point.xyz, atol=1e-9)
    (kept,) = export(model, ["undistorted"], tmp_path / "kept", photos, ExportOptions(keep_frame=True, progress=False))
    (tmp_path / "sparse/georeference.json").write_text("{}")
    (metres,) = export(model, ["undistorted"], tmp_path / "metres", photos, QUIET)
    for folder in (kept, metres):
        assert not (folder / "turned.json").exists()
        stays = read_model(folder / "sparse/0")
        assert all((stays.points3D[i].xyz == point.xyz).all() for i, point in before.points3D.items())


def test_the_command_does_only_what_is_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, photos = scene(tmp_path, "SIMPLE_RADIAL")
    command = ["export", str(model), "--format", "undistorted", "--images", str(photos), "--quiet", "--output",
               str(tmp_path / "out")]  # fmt: skip
    assert main(command) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out/undistorted'}\n"
    written = tmp_path / "out/undistorted/images/a/0.jpg"
    before = written.stat().st_mtime_ns
    assert main(command) == 0
    assert written.stat().st_mtime_ns == before
    assert main([*command, "--max-size", "90"]) == 0
    assert max(Image.open(written).size) == 90
    Image.new("RGB", (WIDTH + 1, HEIGHT)).save(photos / "a/1.png")
    assert main(command) == 1
    assert "a/1.png: has 251x200 pixels, but its camera in the model has 250x200" in capsys.readouterr().err
    assert max(Image.open(written).size) == 90  # what was there is whole
    with pytest.raises(MappingError, match="251x200"):
        export(model, ["undistorted"], tmp_path / "other", photos, QUIET)


def test_colmap_undistorts_what_it_cannot_decode_itself(tmp_path: Path) -> None:
    model, photos = scene(tmp_path, "SIMPLE_RADIAL")
    readable, images = readable_by_colmap(model, photos, tmp_path / "readable")
    assert images == tmp_path / "readable/images"
    pycolmap.undistort_images(tmp_path / "dense", readable, images)
    for name in read_model(readable).images.values():
        with Image.open(tmp_path / "dense/images" / name.name) as picture:
            values = np.asarray(picture.convert("RGB"), float)
        assert np.abs(values[..., 2] - 90).mean() < 3  # and not black
    for name in ("b/2.webp", "b/3.tif"):
        (photos / name).unlink()
        Image.new("RGB", (WIDTH, HEIGHT)).save(photos / name, "PNG")  # whatever they are called
    assert readable_by_colmap(model, photos, tmp_path / "unused") == (model, photos)
