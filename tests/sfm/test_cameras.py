import numpy as np
import pytest
from PIL import Image

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.sfm.cameras import CameraOptions, assign_cameras

SIZE = (120, 80)


def write(path, size=SIZE, model=None, focal_35mm=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if model:
        exif[0x010F], exif[0x0110] = "Maker", model
    if focal_35mm:
        exif.get_ifd(0x8769)[0xA405] = focal_35mm
    Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(path, exif=exif)


@pytest.fixture
def photos(tmp_path):
    write(tmp_path / "a/1.jpg", model="Phone", focal_35mm=28)
    write(tmp_path / "a/2.jpg", model="Phone", focal_35mm=28)
    write(tmp_path / "a/3.jpg", model="Phone", focal_35mm=50)
    write(tmp_path / "b/1.jpg", model="Phone", focal_35mm=28)
    write(tmp_path / "b/2.jpg")
    write(tmp_path / "b/3.jpg")
    return tmp_path, {f"{folder}/{i}.jpg": SIZE for folder in "ab" for i in (1, 2, 3)}


@pytest.mark.parametrize(
    ("mode", "groups"),
    [
        ("single", ["a1 a2 a3 b1 b2 b3"]),
        ("folder", ["a1 a2 a3", "b1 b2 b3"]),
        ("image", ["a1", "a2", "a3", "b1", "b2", "b3"]),
        ("auto", ["a1 a2", "a3", "b1", "b2", "b3"]),
    ],
)
def test_modes_group_images(photos, mode, groups):
    folder, sizes = photos
    found = assign_cameras(folder, sizes, CameraOptions(mode))
    short = [" ".join(name[0] + name[2] for name in names) for _, names in found]
    assert short == groups


def test_focal_length_is_that_of_exif_or_a_guess(photos):
    folder, sizes = photos
    cameras = {names[0]: camera for camera, names in assign_cameras(folder, sizes, CameraOptions("image"))}
    # a 35 mm frame has a diagonal of 43.27 mm; COLMAP converts by diagonals
    diagonal = np.hypot(*SIZE) / np.hypot(36, 24)
    assert cameras["a/1.jpg"].focal_length == pytest.approx(28 * diagonal, rel=1e-3)
    assert cameras["a/1.jpg"].has_prior_focal_length
    assert cameras["b/2.jpg"].focal_length == pytest.approx(1.2 * 120)
    assert not cameras["b/2.jpg"].has_prior_focal_length
    assert (cameras["a/1.jpg"].principal_point_x, cameras["a/1.jpg"].principal_point_y) == (60, 40)


def test_known_intrinsics_are_taken_as_they_are(photos):
    folder, sizes = photos
    options = CameraOptions("single", "PINHOLE", (100.0, 101.0, 59.0, 41.0))
    ((camera, names),) = assign_cameras(folder, sizes, options)
    assert camera.params.tolist() == [100, 101, 59, 41]
    assert camera.has_prior_focal_length
    assert len(names) == 6


def test_sharing_a_camera_between_sizes_is_refused(tmp_path):
    write(tmp_path / "1.jpg")
    write(tmp_path / "2.jpg", size=(80, 120))
    with pytest.raises(ConfigurationError, match=r"80x120, 120x80"):
        assign_cameras(tmp_path, {"1.jpg": SIZE, "2.jpg": (80, 120)}, CameraOptions("single"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("all",), "camera mode 'all'"),
        (("auto", "NIKON"), "camera model 'NIKON'.*PINHOLE"),
        (("auto", "PINHOLE", (1.0,)), r"PINHOLE has 4 parameters \(fx, fy, cx, cy\), not 1"),
    ],
)
def test_wrong_options_say_what_is_right(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        CameraOptions(*arguments)
