"""Known intrinsics: for which images, of which size, and whether they can be right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from PIL import Image

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.sfm.calibration import Calibration, calibration_of, check_parameters, read_calibrations
from posfeat_hloc.sfm.cameras import CameraOptions, assign_cameras, check_cameras

TWO_SIZES = {"cam0/1.jpg": (768, 512), "cam0/2.jpg": (768, 512), "cam1/1.jpg": (640, 427)}


def camera(size: tuple[int, int], *params: float, model: str = "PINHOLE") -> pycolmap.Camera:
    found = pycolmap.Camera.create_from_model_name(1, model, 1.0, *size)
    found.params = list(params)
    return found


def test_a_file_gives_each_folder_its_own(tmp_path: Path) -> None:
    path = tmp_path / "cameras.txt"
    path.write_text(
        "# rig\ncam0 SIMPLE_RADIAL 768 512 700 384 256 0.01\ncam1 PINHOLE 1280 854 1190 1191 640 427\n"
        "with space/a b.jpg PINHOLE 10 10 8 8 5 5\n. SIMPLE_PINHOLE 100 100 90 50 50\n"
    )
    found = read_calibrations(path)
    assert [c.name for c in found] == ["cam0", "cam1", "with space/a b.jpg", ""]
    assert calibration_of("cam0/1.jpg", found) == found[0]
    assert calibration_of("cam01/1.jpg", found) == found[3]
    assert calibration_of("with space/a b.jpg", found) == found[2]
    options = CameraOptions(calibrations=found[:2])
    cameras = assign_cameras(tmp_path, TWO_SIZES, options)
    assert [names for _, names in cameras] == [["cam0/1.jpg", "cam0/2.jpg"], ["cam1/1.jpg"]]
    assert_allclose(cameras[0][0].params, [700, 384, 256, 0.01])
    assert_allclose(cameras[1][0].params, [595, 595.5, 320, 213.5])  # half as large
    assert all(camera.has_prior_focal_length for camera, _ in cameras)
    assert check_cameras(TWO_SIZES, options) == ["intrinsics of cam1 scaled from 1280x854 to 640x427"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cam0 700 384 256", "camera model of COLMAP"),
        ("PINHOLE 768 512 1 1 1 1", "camera model of COLMAP"),
        ("cam0 PINHOLE 768 512 1 1", "4 parameters"),
        ("cam0 PINHOLE 768 512 a b c d", "all numbers"),
        ("", "holds no intrinsics"),
    ],
)
def test_a_file_of_another_form_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "c.txt").write_text(line + "\n")
    with pytest.raises(ConfigurationError, match=rf"c\.txt.*{message}"):
        read_calibrations(tmp_path / "c.txt")


def test_one_set_for_two_sizes_is_refused() -> None:
    options = CameraOptions("folder", params=(700.0, 384.0, 256.0, 0.0))
    with pytest.raises(ConfigurationError, match=r"2 sizes \(cam0/1.jpg 768x512, cam1/1.jpg 640x427\).*FILE"):
        check_cameras(TWO_SIZES, options)


def test_another_shape_is_refused_and_strangers_are_named() -> None:
    calibration = Calibration("cam0", "PINHOLE", (512, 512), (400.0, 400.0, 256.0, 256.0))
    with pytest.raises(ConfigurationError, match=r"cam0 are for 512x512 pixels, but cam0/1.jpg has 768x512"):
        check_cameras(TWO_SIZES, CameraOptions(calibrations=(calibration,)))
    stranger = Calibration("cam7", "PINHOLE", (768, 512), (700.0, 700.0, 384.0, 256.0))
    with pytest.raises(ConfigurationError, match="'cam7', and no image has that name"):
        check_cameras(TWO_SIZES, CameraOptions(calibrations=(stranger,)))


@given(st.floats(1.4, 8) | st.floats(0.1, 0.7), st.integers(200, 4000), st.integers(200, 4000))
def test_parameters_of_another_size_are_told(scale: float, width: int, height: int) -> None:
    wrong = camera((width, height), 900, 900, scale * width / 2, scale * height / 2)
    with pytest.raises(ConfigurationError, match="images of about") as caught:
        check_parameters(wrong, "x.jpg")
    assert f"about {scale * width:.0f}x{scale * height:.0f} pixels" in str(caught.value)


def test_a_principal_point_off_the_centre() -> None:
    assert check_parameters(camera((640, 480), 500, 500, 322, 238), "x.jpg") == ""
    assert "(420, 240) is 16 % of the side off centre" in check_parameters(
        camera((640, 480), 500, 500, 420, 240), "x.jpg"
    )
    with pytest.raises(ConfigurationError, match="rotated by 90 degrees"):
        check_parameters(camera((480, 640), 500, 500, 320, 240), "x.jpg")
    with pytest.raises(ConfigurationError, match="outside the image"):
        check_parameters(camera((640, 480), 500, 500, 700, 240), "x.jpg")
    with pytest.raises(ConfigurationError, match="focal length -5 px is not positive"):
        check_parameters(camera((640, 480), -5, 320, 240, model="SIMPLE_PINHOLE"), "x.jpg")


def test_a_focal_length_alone(tmp_path: Path) -> None:
    ((found, names),) = assign_cameras(tmp_path, {"a.jpg": (640, 480), "b.jpg": (640, 480)},
                                       CameraOptions(params=(500.0,)))  # fmt: skip
    assert found.params.tolist() == [500, 320, 240, 0]
    assert found.has_prior_focal_length
    assert names == ["a.jpg", "b.jpg"]  # one set of parameters is one camera


@pytest.mark.parametrize("model", ["OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE"])
def test_fisheye_lenses_start_near_half_the_width(tmp_path: Path, model: str) -> None:
    ((found, _),) = assign_cameras(tmp_path, {"a.jpg": (640, 640)}, CameraOptions("single", model))
    assert 0.3 * 640 <= found.mean_focal_length() <= 0.5 * 640
    assert found.has_prior_focal_length  # else COLMAP verifies no pair of them


def test_panoramas_have_no_focal_length(tmp_path: Path) -> None:
    ((found, _),) = assign_cameras(tmp_path, {"a.jpg": (1024, 512)}, CameraOptions("single", "EQUIRECTANGULAR"))
    assert found.params.tolist() == [1024, 512]
    assert found.has_prior_focal_length


def test_exif_of_webp_counts(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Phone"
    exif.get_ifd(0x8769)[0xA405] = 28
    picture = Image.fromarray(np.zeros((80, 120, 3), np.uint8))
    for name in ("1.jpg", "2.webp"):
        picture.save(tmp_path / name, exif=exif)
    ((found, names),) = assign_cameras(tmp_path, {"1.jpg": (120, 80), "2.webp": (120, 80)}, CameraOptions())
    assert names == ["1.jpg", "2.webp"]  # the same device, the same focal length
    assert found.focal_length == pytest.approx(28 * np.hypot(120, 80) / np.hypot(36, 24), rel=1e-3)


def test_focal_lengths_that_no_lens_has_are_not_taken_from_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Phone"
    exif.get_ifd(0x8769)[0xA405] = 2
    Image.fromarray(np.zeros((80, 120, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    ((found, _),) = assign_cameras(tmp_path, {"a.jpg": (120, 80)}, CameraOptions())
    assert found.focal_length == pytest.approx(1.2 * 120)
    assert not found.has_prior_focal_length


def test_a_folder_that_begins_with_a_hash(tmp_path: Path) -> None:
    path = tmp_path / "cameras.txt"
    path.write_text("# rig of 2020\n#1 PINHOLE 6 4 5 5 3 2\n#cam0 PINHOLE 6 4 9 9 3 2\ncam1 PINHOLE 6 4 7 7 3 2\n")
    options = CameraOptions(calibrations=read_calibrations(path))
    sizes = {"#1/a.jpg": (6, 4), "cam1/a.jpg": (6, 4)}
    assert check_cameras(sizes, options) == []  # that of cam0 is commented out
    assert [camera.params[0] for camera, _ in assign_cameras(tmp_path, sizes, options)] == [5, 7]
