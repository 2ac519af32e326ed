"""Poses of every format, written here by their published formulas, project points where COLMAP's model does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from posfeat_hloc.errors import MappingError
from posfeat_hloc.sfm.known_poses import find_names, read_known_poses
from posfeat_hloc.sfm.pose_files import read_pose_list
from tests.rendering import View, arc

WIDTH, HEIGHT, FOCAL = 64, 48, 60.0
NAMES = ("a/left view 1.jpg", "a/2.jpg", "b/2.jpg", "b/3.jpg")
VIEWS = dict(zip(NAMES, arc(4), strict=True))
POINTS = np.random.default_rng(0).uniform((-1, -1, 5), (1, 1, 8), (20, 3))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in NAMES:
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("L", (WIDTH, HEIGHT)).save(folder / name)
    return folder


def plain(view: View, k1: float = 0.0, k2: float = 0.0) -> np.ndarray:
    """Pixels of the points, ``(N, 2)``, by the pinhole formula with radial distortion."""
    local = POINTS @ view.rotation.T + view.translation
    x = local[:, :2] / local[:, 2:]
    square = (x**2).sum(axis=1, keepdims=True)
    return np.asarray(FOCAL * x * (1 + k1 * square + k2 * square**2) + [WIDTH / 2, HEIGHT / 2])


def camera_to_world(view: View) -> np.ndarray:
    """In ARKit's axes: the columns are where right, up and backwards of the camera are in the world."""
    right, down, forward = view.rotation
    return np.vstack([np.stack([right, -down, -forward, view.centre], axis=1), [0, 0, 0, 1]])


def quaternion(view: View) -> list[float]:
    x, y, z, w = pycolmap.Rotation3d(view.rotation).quat
    return [w, x, y, z]


def numbers(values: object) -> str:
    return " ".join(repr(float(v)) for v in np.ravel(values))  # type: ignore[call-overload]


def write_list(folder: Path) -> Path:
    lines = [f"{n} {numbers([*quaternion(v), *v.translation, FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2])}"
             for n, v in VIEWS.items()]  # fmt: skip
    (folder / "poses.txt").write_text("# world to camera\n\n" + "\n".join(lines))
    return folder / "poses.txt"


def write_arkit(folder: Path, rows: int = 4) -> Path:
    lines = [f"{n} {numbers(camera_to_world(v)[:rows])} {numbers([FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2])}"
             for n, v in VIEWS.items()]  # fmt: skip
    (folder / "arkit.txt").write_text("\n".join(lines))
    return folder / "arkit.txt"


def write_transforms(folder: Path) -> Path:
    frames = [{"file_path": f"../elsewhere/{n}", "transform_matrix": camera_to_world(v).tolist()}
              for n, v in VIEWS.items()]  # fmt: skip
    values = {"fl_x": FOCAL, "w": WIDTH, "h": HEIGHT, "k1": -0.1, "k2": 0.02, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(values))
    return folder


def write_nerf(folder: Path) -> Path:
    """As the synthetic scenes of NeRF have them: an angle of view, and no endings."""
    frames = [{"file_path": f"./{n.removesuffix('.jpg')}", "transform_matrix": camera_to_world(v).tolist()}
              for n, v in VIEWS.items()]  # fmt: skip
    angle = 2 * np.arctan(WIDTH / 2 / FOCAL)
    (folder / "t.json").write_text(json.dumps({"camera_angle_x": angle, "w": WIDTH, "h": HEIGHT, "frames": frames}))
    return folder / "t.json"


def write_bundler(folder: Path) -> Path:
    """Its cameras look along -z with y up; a camera of focal length 0 was not found."""
    flip = np.diag([1.0, -1, -1])
    lines = ["# Bundle file v0.3", "5 0"]
    for view in VIEWS.values():
        lines += [numbers([FOCAL, -0.1, 0.02]), *(numbers(row) for row in flip @ view.rotation)]
        lines.append(numbers(flip @ view.translation))
    lines += ["0 0 0"] * 5
    (folder / "bundle.out").write_text("\n".join(lines) + "\n")
    (folder / "list.txt").write_text("".join(f"./{name} 0 61.5\n" for name in NAMES) + "lost.jpg\n")
    return folder / "bundle.out"


def write_nvm(folder: Path) -> Path:
    lines = ["NVM_V3 ", "", "4"]
    for name, view in VIEWS.items():
        lines.append(f"{name.replace(' ', chr(34))} {FOCAL} {numbers([*quaternion(view), *view.centre])} 0 0")
    (folder / "model.nvm").write_text("\n".join([*lines, "", "0", ""]))
    return folder / "model.nvm"


def write_polycam(folder: Path) -> Path:
    for name, view in VIEWS.items():
        if name == "b/2.jpg":  # two photographs have this stem, and the file does not say which
            continue
        matrix = camera_to_world(view)
        values = {f"t_{r}{c}": matrix[r, c] for r in range(3) for c in range(4)}
        values |= {"fx": FOCAL, "fy": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2, "width": WIDTH, "height": HEIGHT}
        (folder / f"{Path(name).stem}.json").write_text(json.dumps(values))
    return folder


def write_colmap(folder: Path) -> Path:
    model = pycolmap.Reconstruction()
    params = [FOCAL, WIDTH / 2, HEIGHT / 2]
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(camera_id=1, model="SIMPLE_PINHOLE", width=WIDTH, height=HEIGHT, params=params)
    )
    for i, (name, view) in enumerate(VIEWS.items(), start=1):
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(view.rotation), view.translation)
        model.add_image_with_trivial_frame(pycolmap.Image(name=name, camera_id=1, image_id=i), pose)
    (folder / "sparse/0").mkdir(parents=True)
    model.write_text(folder / "sparse/0")
    return folder


DISTORTED = (write_transforms, write_bundler)


@pytest.mark.parametrize(
    "write",
    [write_list, write_arkit, write_transforms, write_nerf, write_bundler, write_nvm, write_polycam, write_colmap],
    ids=lambda write: write.__name__.removeprefix("write_"),
)
def test_points_are_seen_where_the_format_says(photos: Path, tmp_path: Path, write: Callable[[Path], Path]) -> None:
    model = read_known_poses(write(tmp_path), photos)
    images = {image.name: image for image in model.images.values()}
    assert set(images) == (set(NAMES) - {"a/2.jpg", "b/2.jpg"} if write is write_polycam else set(NAMES))
    for name, image in images.items():
        found = model.cameras[image.camera_id].img_from_cam(image.cam_from_world() * POINTS)
        assert_allclose(found, plain(VIEWS[name], *((-0.1, 0.02) if write in DISTORTED else ())), atol=1e-3)
    assert len(model.cameras) == 1


def test_matrices_of_three_rows_are_the_same(photos: Path, tmp_path: Path) -> None:
    model = read_known_poses(write_arkit(tmp_path, rows=3), photos)
    for image in model.images.values():
        found = model.cameras[image.camera_id].img_from_cam(image.cam_from_world() * POINTS)
        assert_allclose(found, plain(VIEWS[image.name]), atol=1e-9)


def test_visualsfms_distortion_has_the_other_sign(photos: Path, tmp_path: Path) -> None:
    path = write_nvm(tmp_path)
    path.write_text(path.read_text().replace(" 0 0\n", " 0.05 0\n"))
    assert [camera.params[3] for camera in read_known_poses(path, photos).cameras.values()] == [-0.05]


def test_unknown_intrinsics_are_guessed(photos: Path, tmp_path: Path) -> None:
    lines = [f"{n} {numbers([*quaternion(v), *v.translation])}" for n, v in VIEWS.items()]
    (tmp_path / "poses.txt").write_text("\n".join(lines))
    model = read_known_poses(tmp_path / "poses.txt", photos)
    assert {camera.mean_focal_length() for camera in model.cameras.values()} == {1.2 * WIDTH}


def test_what_is_wrong_is_said_with_its_place(photos: Path, tmp_path: Path) -> None:
    good = write_list(tmp_path).read_text()
    wrong = {
        "not a rotation": good.replace("# world to camera", "b/3.jpg 2 0 0 0 0 1 0 0 0 0 1 0"),
        "line 7: has 3 numbers after the name": good + "\nb/3.jpg 1 2 3",
        "holds no poses": "# nothing\n",
        "holds none of the 1 photographs": "other.jpg 1 0 0 0 0 0 0",
    }
    for message, text in wrong.items():
        (tmp_path / "wrong.txt").write_text(text)
        with pytest.raises(MappingError, match=message):
            read_known_poses(tmp_path / "wrong.txt", photos)
    values = json.loads((write_transforms(tmp_path) / "transforms.json").read_text())
    for change, message in (
        ({"camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR"),
        ({"w": 65}, "has 64x48 pixels"),
        ({"frames": []}, "has no 'frames'"),
        ({"fl_x": -1}, "not positive"),
    ):
        (tmp_path / "wrong.json").write_text(json.dumps({**values, **change}))
        with pytest.raises(MappingError, match=message):
            read_known_poses(tmp_path / "wrong.json", photos)
    bundle = write_bundler(tmp_path)
    (tmp_path / "list.txt").write_text("a/2.jpg\n")
    with pytest.raises(MappingError, match=r"list\.txt: has 1 names, but .* has 5 cameras"):
        read_known_poses(bundle, photos)
    with pytest.raises(MappingError, match="no such file or folder"):
        read_known_poses(tmp_path / "none", photos)


def test_names_are_found_by_the_end_of_their_paths(photos: Path) -> None:
    asked = ["/home/me/a/2.jpg", "C:\\scans\\b\\2.jpg", "3", "b/3.png", "2.jpg", "./a/left view 1.jpg", "none.jpg"]
    assert find_names(asked, photos) == {
        "/home/me/a/2.jpg": "a/2.jpg",
        "C:\\scans\\b\\2.jpg": "b/2.jpg",
        "3": "b/3.jpg",
        "b/3.png": "b/3.jpg",
        "./a/left view 1.jpg": "a/left view 1.jpg",
    }


def test_poses_of_names_that_begin_with_a_hash(tmp_path: Path) -> None:
    """What is commented out is no image of the folder."""
    (tmp_path / "#1.jpg").touch()
    path = tmp_path / "poses.txt"
    path.write_text("# world to camera\n#1.jpg 1 0 0 0 1 2 3\n#gone.jpg 1 0 0 0 4 5 6\na.jpg 1 0 0 0 7 8 9\n")
    assert [view.name for view in read_pose_list(path, tmp_path)] == ["#1.jpg", "a.jpg"]
