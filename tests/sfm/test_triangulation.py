from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest

from posfeat_hloc.errors import ConfigurationError, MappingError, StoreError
from posfeat_hloc.features import Features, Matches
from posfeat_hloc.sfm import triangulation
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.sfm.pairs import exhaustive_pairs
from posfeat_hloc.sfm.triangulation import TriangulationOptions, triangulate, triangulate_points
from posfeat_hloc.stores import FeatureStore, MatchStore
from tests.rendering import arc

POINTS = 120
WRONG = 30  # matches of every pair that are false
WIDTH, HEIGHT = 640, 480
NAMES = ["db/a b.jpg", "db/c-d.jpg", "db-c/d.jpg", "e.jpg", "f.jpg", "no features.jpg", "few matches.jpg"]
WITHOUT, FEW = NAMES[5], NAMES[6]
CAMERAS = {  # one strongly distorted
    1: ("PINHOLE", [500.0, 505.0, 322.0, 238.0]),
    2: ("OPENCV", [480.0, 490.0, 318.0, 243.0, -0.15, 0.06, 0.002, -0.001]),
}


class Scene:
    """Points seen by a known model; the keypoints of each image are its projections in an order of its own."""

    def __init__(self, folder: Path, text: bool, noise: float = 0.0) -> None:
        rng, errors = np.random.default_rng(1), np.random.default_rng(2)
        self.folder = folder
        self.points = rng.uniform([-1.5, -1, 5], [1.5, 1, 8], size=(POINTS, 3))
        self.model = pycolmap.Reconstruction()
        for camera_id, (kind, params) in CAMERAS.items():
            camera = pycolmap.Camera(camera_id=camera_id, model=kind, width=WIDTH, height=HEIGHT, params=params)
            self.model.add_camera_with_trivial_rig(camera)
        for i, (name, view) in enumerate(zip(NAMES, arc(len(NAMES)), strict=True)):
            image = pycolmap.Image(name=name, camera_id=1 + i % 2, image_id=10 + 3 * i)  # ids with gaps
            pose = pycolmap.Rigid3d(pycolmap.Rotation3d(view.rotation), view.translation)
            self.model.add_image_with_trivial_frame(image, pose)
        (folder / "reference").mkdir()
        (self.model.write_text if text else self.model.write)(folder / "reference")
        self.order = {name: rng.permutation(POINTS) for name in NAMES}
        with FeatureStore(folder / "f.h5", {}) as store:
            for name in NAMES:
                if name != WITHOUT:
                    xy = self.project(name, self.points[self.order[name]]).astype(np.float32) - np.float32(0.5)
                    xy += errors.normal(0, noise, xy.shape).astype(np.float32)
                    store.write(name, features(xy), (WIDTH, HEIGHT))
            store.commit()
        self.pairs = exhaustive_pairs(name for name in NAMES if name != WITHOUT)
        with MatchStore(folder / "m.h5", {}) as store:
            for a, b in self.pairs:
                indices = np.argsort(self.order[b])[self.order[a]]  # of the same point
                wrong = rng.choice(POINTS, WRONG, replace=False)
                indices[wrong] = np.roll(indices[wrong], 1)
                if FEW in (a, b):
                    indices[14:] = -1
                store.write(a, b, Matches(indices, np.ones(POINTS, np.float32)), POINTS)
            store.commit()

    def project(self, name: str, points: np.ndarray) -> np.ndarray:
        image = self.model.find_image_with_name(name)
        return np.asarray(self.model.cameras[image.camera_id].img_from_cam(image.cam_from_world() * points))

    def run(self, output: str = "out", verification: str = "poses", **changed):
        arguments = {
            "reference": self.folder / "reference",
            "images": self.folder,
            "features": self.folder / "f.h5",
            "matches": self.folder / "m.h5",
            "pairs": self.pairs,
            "output": self.folder / output,
            "options": TriangulationOptions(verification, threads=1),
        } | changed
        return triangulate(**arguments, progress=False)


def features(xy):
    return Features(xy, np.ones(len(xy), np.float32), np.zeros((len(xy), 4), np.float32))


def true_point(scene, image, index):
    return scene.points[scene.order[image.name][index]]


def written_poses(model: Path) -> dict[int, tuple[float, ...]]:
    """Image id -> (qw, qx, qy, qz, tx, ty, tz) as images.bin has them: COLMAP normalises quaternions while reading."""
    content = (model / "images.bin").read_bytes()
    (count,) = struct.unpack_from("<Q", content)
    position, poses = 8, {}
    for _ in range(count):
        image_id, *pose = struct.unpack_from("<I7d", content, position)
        position = content.index(b"\0", position + 64) + 1
        position += 8 + 24 * struct.unpack_from("<Q", content, position)[0]
        poses[image_id] = tuple(pose)
    return poses


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    scene = Scene(tmp_path_factory.mktemp("scene"), text=False)
    scene.run()
    return scene


@pytest.fixture
def own_scene(tmp_path):
    """From a model in text, which tests may change."""
    return Scene(tmp_path, text=True)


@pytest.mark.parametrize("verification", ["poses", "ransac"])
def test_points_come_out_where_they_are(scene, verification):
    summary = scene.run(verification, verification)
    model = read_model(scene.folder / verification)
    assert POINTS * 0.95 <= summary.points <= POINTS * 1.1  # hloc with pycolmap 4.2 gives 0
    errors = []
    for point in model.points3D.values():
        element = point.track.elements[0]
        truth = true_point(scene, model.images[element.image_id], element.point2D_idx)
        errors.append(np.linalg.norm(point.xyz - truth))
    assert np.median(errors) < 1e-4
    assert np.mean(np.array(errors) > 0.05) < 0.05
    assert summary.track_length > 4.5  # five images have all points
    assert summary.reprojection_error < 0.05
    assert summary.registered == len(NAMES)


@pytest.mark.parametrize("verification", ["poses", "ransac"])
def test_nothing_is_said_without_progress(scene, verification, capfd):
    scene.run(f"quiet-{verification}", verification)
    assert capfd.readouterr() == ("", "")


def test_poses_and_intrinsics_stay_to_the_last_digit(scene):
    before = read_model(scene.folder / "reference")
    poses = written_poses(scene.folder / "out")
    assert sorted(poses) == sorted(before.images)
    for image in before.images.values():
        pose = image.cam_from_world()
        x, y, z, w = pose.rotation.quat
        assert poses[image.image_id] == (w, x, y, z, *pose.translation)
    after = read_model(scene.folder / "out")
    assert {i: (c.model, c.params.tolist()) for i, c in after.cameras.items()} == {
        i: (c.model, c.params.tolist()) for i, c in before.cameras.items()
    }


def test_point_i_of_an_image_is_its_keypoint_i(scene):
    model = read_model(scene.folder / "out")
    with FeatureStore(scene.folder / "f.h5") as store:
        for image in model.images.values():
            found = np.array([point.xy for point in image.points2D]).reshape(-1, 2)
            if image.name == WITHOUT:
                assert len(found) == 0
                continue
            np.testing.assert_array_equal(found, store.keypoints(image.name) + np.float32(0.5))
            near = [
                np.linalg.norm(model.points3D[point.point3D_id].xyz - true_point(scene, image, index)) < 0.05
                for index, point in enumerate(image.points2D)
                if point.has_point3D()
            ]
            assert len(near) == 0 if image.name == FEW else np.mean(near) > 0.95


def test_the_same_seed_gives_the_same_points(scene):
    scene.run("again")
    models = [read_model(scene.folder / output) for output in ("out", "again")]
    points = [np.array([m.points3D[i].xyz for i in sorted(m.points3D)]) for m in models]
    np.testing.assert_array_equal(points[0], points[1])


def test_only_true_matches_pass_the_known_poses(scene):
    ids = {name: 10 + 3 * i for i, name in enumerate(NAMES)}
    with pycolmap.Database.open(scene.folder / "out/database.db") as db:
        for a, b in scene.pairs:
            if FEW in (a, b):
                assert not db.exists_matches(ids[a], ids[b])
                continue
            assert len(db.read_matches(ids[a], ids[b])) == POINTS
            found = db.read_two_view_geometry(ids[a], ids[b])
            kept = {tuple(match) for match in np.asarray(found.inlier_matches).tolist()}
            true = np.stack([np.arange(POINTS), np.argsort(scene.order[b])[scene.order[a]]], axis=1).tolist()
            assert len(kept & {tuple(match) for match in true}) >= POINTS - WRONG
            assert len(kept) <= POINTS - WRONG / 2  # a false match may lie on its epipolar line
            truth = read_model(scene.folder / "reference")
            relative = truth.images[ids[b]].cam_from_world() * truth.images[ids[a]].cam_from_world().inverse()
            np.testing.assert_allclose(found.cam2_from_cam1.matrix(), relative.matrix(), atol=1e-12)


def test_a_model_in_text_gives_colored_points(own_scene):
    for name in NAMES:
        (own_scene.folder / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(own_scene.folder / name), np.full((HEIGHT, WIDTH, 3), (30, 20, 10), np.uint8)[..., ::-1])
    assert own_scene.run().points > POINTS * 0.95
    colors = np.array([point.color for point in read_model(own_scene.folder / "out").points3D.values()])
    np.testing.assert_allclose(colors, np.broadcast_to([30, 20, 10], colors.shape), atol=2)


def test_an_earlier_output_is_replaced_only_by_a_finished_one(own_scene):
    own_scene.run()
    before = (own_scene.folder / "out/points3D.bin").read_bytes()
    with pytest.raises(MappingError, match=r"no pose of 'z\.jpg' \(1 images"):
        own_scene.run(pairs=[*own_scene.pairs, ("e.jpg", "z.jpg")])
    assert (own_scene.folder / "out/points3D.bin").read_bytes() == before
    own_scene.run(pairs=[])
    assert len(read_model(own_scene.folder / "out").points3D) == 0
    assert not (own_scene.folder / "out.partial").exists()


def test_bad_input_is_named(own_scene):
    with pytest.raises(MappingError, match="no COLMAP model"):
        own_scene.run(reference=own_scene.folder / "nowhere")
    with pytest.raises(StoreError, match=r"no features\.jpg"):
        own_scene.run(pairs=[(WITHOUT, "e.jpg")])
    with FeatureStore(own_scene.folder / "f.h5", {}) as store:
        store.write("e.jpg", features(np.zeros((5, 2), np.float32)), (WIDTH, HEIGHT))
        store.commit()
    with pytest.raises(StoreError, match=r"matches of 'db/a b\.jpg' and 'e\.jpg' name keypoints"):
        own_scene.run(pairs=[("db/a b.jpg", "e.jpg")])
    with FeatureStore(own_scene.folder / "f.h5", {}) as store:
        store.write("e.jpg", features(np.zeros((5, 2), np.float32)), (320, 240))
        store.commit()
    with pytest.raises(MappingError, match=r"'e\.jpg' are of an image of 320x240 pixels, but its camera .* 640x480"):
        own_scene.run()
    with pytest.raises(ConfigurationError, match="choose from poses, ransac"):
        TriangulationOptions("none")
    with pytest.raises(ConfigurationError, match="max_error"):
        TriangulationOptions(max_error=0)


@pytest.fixture(scope="module")
def noisy_scene(tmp_path_factory):
    made = Scene(tmp_path_factory.mktemp("noisy"), text=False, noise=1.5)
    made.run()
    return made


def options():
    made = pycolmap.IncrementalPipelineOptions()
    made.min_num_matches, made.num_threads = 15, 1
    made.random_seed = made.mapper.random_seed = made.triangulation.random_seed = 0
    made.ba_refine_sensor_from_rig, made.extract_colors = False, False
    return made


def tracks(model):
    """Observations of a point -> where it is; ids may differ."""
    return {
        frozenset((element.image_id, element.point2D_idx) for element in point.track.elements): point.xyz
        for point in model.points3D.values()
    }


def triangulated(scene):
    model = read_model(scene.folder / "reference")
    triangulate_points(model, scene.folder / "out" / "database.db", options())
    return model


def test_the_points_are_those_of_colmap(noisy_scene, tmp_path):
    pycolmap.set_random_seed(0)
    found = triangulated(noisy_scene)
    pycolmap.set_random_seed(0)
    database = noisy_scene.folder / "out" / "database.db"
    theirs = pycolmap.triangulate_points(
        read_model(noisy_scene.folder / "reference"), database, noisy_scene.folder, tmp_path, options=options()
    )
    ours, expected = tracks(found), tracks(theirs)
    assert len(expected) > 80
    assert ours.keys() == expected.keys()
    distances = [np.linalg.norm(ours[key] - expected[key]) for key in expected]
    assert max(distances) < 1e-3  # noise moves the points by 0.01 to 0.1
    assert found.compute_mean_reprojection_error() == pytest.approx(theirs.compute_mean_reprojection_error(), rel=1e-4)


def test_only_points_with_other_observations_are_adjusted_again(noisy_scene, monkeypatch):
    rounds = []
    adjust = triangulation._adjust

    def count(model, points, *rest):
        rounds.append((len(points), len(model.points3D)))
        adjust(model, points, *rest)

    monkeypatch.setattr(triangulation, "_adjust", count)
    triangulated(noisy_scene)
    assert len(rounds) > 1
    assert rounds[0][0] == rounds[0][1]
    assert all(adjusted < total / 2 for adjusted, total in rounds[1:])
