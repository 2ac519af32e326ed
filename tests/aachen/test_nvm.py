"""NVM files against models that the tests project themselves."""

import numpy as np
import pycolmap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posfeat_hloc.aachen.miniature import build_model
from posfeat_hloc.aachen.nvm import NvmFile, convert_nvm, write_nvm
from posfeat_hloc.errors import MappingError

NAMES = ["db/1.jpg", "db/10.jpg", "db/with space.jpg", "query/day/x.jpg"]


def rotation_of(w, x, y, z):
    """The matrix of a unit quaternion, as textbooks have it."""
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


class World:
    """Random cameras around random points, projected by the formulas of a radial camera."""

    def __init__(self, seed=0, points=60):
        rng = np.random.default_rng(seed)
        self.points = rng.uniform(-1, 1, (points, 3))
        self.colors = rng.integers(0, 256, (points, 3))
        self.quaternions, self.centres, self.params = [], [], []
        for _ in NAMES:
            quaternion = np.array([1, *rng.normal(0, 0.15, 3)])
            self.quaternions.append(quaternion / np.linalg.norm(quaternion))
            self.centres.append(np.array([*rng.uniform(-0.5, 0.5, 2), rng.uniform(-5, -4)]))
            self.params.append([rng.uniform(500, 600), rng.uniform(310, 330), rng.uniform(230, 250), -0.07])
        self.seen = rng.random((points, len(NAMES))) < 0.7

    def place(self, point, image):
        """In COLMAP's pixels; centre of the top-left pixel at (0.5, 0.5)."""
        focal, cx, cy, k = self.params[image]
        x, y, z = rotation_of(*self.quaternions[image]) @ (self.points[point] - self.centres[image])
        u, v = x / z, y / z
        scale = focal * (1 + k * (u * u + v * v))
        return np.array([scale * u + cx, scale * v + cy])

    def cameras(self):
        return {
            name: pycolmap.Camera(model="SIMPLE_RADIAL", width=640, height=480, params=params)
            for name, params in zip(NAMES, self.params, strict=True)
        }

    def write(self, path, relative=False, scale=1.0):
        lines = ["NVM_V3 ", "", str(len(NAMES))]
        for name, q, c, (focal, *_, k) in zip(NAMES, self.quaternions, self.centres, self.params, strict=True):
            numbers = [focal, *(scale * q), *c, -k]
            lines.append(f"{name.replace(' ', chr(34))} {' '.join(map(repr, map(float, numbers)))} 0")
        lines += ["", str(len(self.points))]
        for i, (point, color) in enumerate(zip(self.points, self.colors, strict=True)):
            observations = []
            for j in np.flatnonzero(self.seen[i]):
                place = self.place(i, j) - (self.params[j][1:3] if relative else 0)
                observations.append(f"{j} {1000 + i} {float(place[0])!r} {float(place[1])!r}")
            place = " ".join(map(repr, map(float, point)))
            lines.append(f"{place} {' '.join(map(str, color))} {len(observations)} {' '.join(observations)}")
        path.write_text("\n".join(lines) + "\n\n0\n")
        return path


def converted(world, tmp_path, **how):
    convert_nvm(world.write(tmp_path / "m.nvm", **how), world.cameras(), tmp_path / "model", progress=False)
    return pycolmap.Reconstruction(tmp_path / "model")


@pytest.mark.parametrize("how", [{}, {"relative": True}, {"scale": 3.7}])
def test_poses_cameras_points_and_tracks_arrive(tmp_path, how):
    world = World()
    model = converted(world, tmp_path, **how)
    assert [model.images[i + 1].name for i in range(len(NAMES))] == NAMES
    for i in range(len(NAMES)):
        image = model.images[i + 1]
        rotation = rotation_of(*world.quaternions[i])
        pose = image.cam_from_world().matrix()
        np.testing.assert_allclose(pose, np.c_[rotation, -rotation @ world.centres[i]], atol=1e-12)
        assert model.cameras[image.camera_id].model_name == "SIMPLE_RADIAL"
        assert list(model.cameras[image.camera_id].params) == world.params[i]
    assert len(model.points3D) == len(world.points)
    for i in range(len(world.points)):
        point = model.points3D[i + 1]
        np.testing.assert_array_equal(point.xyz, world.points[i])
        np.testing.assert_array_equal(point.color, world.colors[i])
        assert {e.image_id - 1 for e in point.track.elements} == set(np.flatnonzero(world.seen[i]))
        for element in point.track.elements:
            observed = model.images[element.image_id].points2D[element.point2D_idx]
            assert observed.point3D_id == i + 1
            np.testing.assert_allclose(observed.xy, world.place(i, element.image_id - 1), atol=1e-9)


def test_colmap_projects_the_points_onto_their_observations(tmp_path):
    """Distortion, principal point and half pixel agree with the file of intrinsics, not with the NVM's numbers."""
    model = converted(World(1), tmp_path)
    model.update_point_3d_errors()
    assert max(point.error for point in model.points3D.values()) < 1e-9


def test_a_model_survives_writing_and_reading(tmp_path):
    world = World(2)
    images, observations = [], []
    for i, (name, camera) in enumerate(world.cameras().items()):
        rotation = rotation_of(*world.quaternions[i])
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(rotation), -rotation @ world.centres[i])
        images.append((name.replace(" ", "_"), camera, pose))
        observations.append([(int(p), world.place(p, i)) for p in np.flatnonzero(world.seen[:, i])])
    model = build_model(images, world.points, world.colors.astype(np.uint8), observations)
    write_nvm(tmp_path / "m.nvm", model)
    cameras = {name: camera for name, camera, _ in images}
    convert_nvm(tmp_path / "m.nvm", cameras, tmp_path / "back", progress=False)
    back = pycolmap.Reconstruction(tmp_path / "back")
    assert back.num_points3D() == model.num_points3D() > 40
    for i, image in model.images.items():
        np.testing.assert_allclose(
            back.images[i].cam_from_world().matrix(), image.cam_from_world().matrix(), atol=1e-12
        )
        np.testing.assert_array_equal([p.xy for p in back.images[i].points2D if p.has_point3D()],
                                      [p.xy for p in image.points2D if p.has_point3D()])  # fmt: skip


@settings(max_examples=25)
@given(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1), st.tuples(*[st.floats(-9, 9)] * 3))
def test_the_centre_of_the_camera_is_where_the_file_says(tmp_path_factory, quaternion, centre):
    path = tmp_path_factory.getbasetemp() / "one.nvm"
    path.write_text(f"NVM_V3\n\n1\na.jpg 500 {' '.join(map(str, (*quaternion, *centre)))} 0 0\n\n0\n")
    (image,) = NvmFile(path).images
    unit = np.array(quaternion) / np.linalg.norm(quaternion)
    np.testing.assert_allclose(image.rotation, unit, atol=1e-12)
    np.testing.assert_allclose(-rotation_of(*unit).T @ image.translation, centre, atol=1e-9)


def test_names_are_cleaned(tmp_path):
    (tmp_path / "m.nvm").write_text(
        'NVM_V3 FixedK 1 2 3 4 5\n2\n./db\\a"b.jpg 1 1 0 0 0 0 0 0 0 0\nc d 1 1 0 0 0 0 0 0 0 0\n0'
    )
    assert [image.name for image in NvmFile(tmp_path / "m.nvm").images] == ["db/a b.jpg", "c d"]


def test_points_are_read_one_by_one(tmp_path):
    """Points before a damaged line arrive before it is even read."""
    path = World().write(tmp_path / "m.nvm")
    lines = path.read_text().splitlines()
    lines[11] = "no point"
    path.write_text("\n".join(lines))
    points = NvmFile(path).points()
    assert [next(points).place for _ in range(2)] == World().points[:2].tolist()
    with pytest.raises(MappingError, match="line 12: not a 3D point"):
        next(points)


IMAGE = "a.jpg 1 1 0 0 0 0 0 0 0 0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not an NVM file"),
        ("ply\nformat ascii", "begins with 'ply'"),
        ("NVM_V3\nmany", "line 2: not the number of images"),
        ("NVM_V3\n\n2\n" + IMAGE, "ends after line 4"),
        ("NVM_V3\n\n1\na.jpg 1 2 3", "line 4: not an image"),
        (f"NVM_V3\n1\n{IMAGE}\n1\n1 2 3 0 0 300 1 0 0 5 5", "line 5: not a 3D point"),
        ("NVM_V3\n\n1\na.jpg 1 0 0 0 0 0 0 0 0 0", "line 4: not an image"),
        (f"NVM_V3\n2\n{IMAGE}\n{IMAGE}\n0", "an image twice"),
        (f"NVM_V3\n1\n{IMAGE}\n1\n0 0 1 9 9 9 2 0 0 5 5", "line 5: not a 3D point"),
        (f"NVM_V3\n1\n{IMAGE}\n1\n0 0 1 9 9 9 1 7 0 5 5", "line 5: not a 3D point"),
        (f"NVM_V3\n1\n{IMAGE}\n2\n0 0 1 9 9 9 1 0 0 5 5", "ends after line 5"),
    ],
)
def test_damaged_files_name_the_line_and_leave_no_model(tmp_path, text, message):
    (tmp_path / "m.nvm").write_text(text)
    cameras = {"a.jpg": pycolmap.Camera(model="SIMPLE_PINHOLE", width=9, height=9, params=[9, 4, 4])}
    with pytest.raises(MappingError, match=message):
        convert_nvm(tmp_path / "m.nvm", cameras, tmp_path / "model", progress=False)
    assert not (tmp_path / "model").exists()


def test_images_without_intrinsics_are_counted(tmp_path):
    world = World()
    cameras = world.cameras()
    del cameras[NAMES[1]], cameras[NAMES[3]]
    with pytest.raises(MappingError, match=r"2 images have no intrinsics, the first is 'db/10.jpg'"):
        convert_nvm(world.write(tmp_path / "m.nvm"), cameras, tmp_path / "model", progress=False)
