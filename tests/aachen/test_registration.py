"""Registration against exact keypoints and matches, made without any picture."""

import numpy as np
import pycolmap
import pytest

from posfeat_hloc.aachen.registration import register_queries
from posfeat_hloc.features import Features, Matches
from posfeat_hloc.localization.queries import Query
from posfeat_hloc.stores import FeatureStore, MatchStore

QUERIES = 2


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A synthetic model of 8 images, 2 of which become queries; keypoint i of every image is where point i is seen."""
    folder = tmp_path_factory.mktemp("scene")
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_frames_per_rig, options.num_points3D = 4, 2, 150
    options.num_points2D_without_point3D = 0
    pycolmap.set_random_seed(1)
    full = pycolmap.synthesize_dataset(options)
    points = np.array([full.points3D[i].xyz for i in sorted(full.points3D)])
    images = sorted(full.images.values(), key=lambda image: image.name)
    model = pycolmap.Reconstruction()
    tracks = [pycolmap.Track() for _ in points]
    queries, truth = [], {}
    with FeatureStore(folder / "f.h5", {"model": "exact"}) as features, MatchStore(folder / "m.h5", {}) as matches:
        for number, image in enumerate(images, start=1):
            camera, pose = full.cameras[image.camera_id], image.cam_from_world()
            places = camera.img_from_cam(pose * points)
            size = (camera.width, camera.height)
            unit = np.zeros((len(points), 8), np.float32)
            ours = Features((places - 0.5).astype(np.float32), np.ones(len(points), np.float32), unit)
            features.write(image.name, ours, size)
            features.commit()
            if number <= QUERIES:
                queries.append(Query(image.name, camera))
                truth[image.name] = pose
                continue
            own = pycolmap.Camera(camera_id=number, model=camera.model, width=size[0], height=size[1],
                                  params=camera.params)  # fmt: skip
            model.add_camera_with_trivial_rig(own)
            kept = pycolmap.Image(name=image.name, keypoints=places, camera_id=number, image_id=number)
            model.add_image_with_trivial_frame(kept, pose)
            for i, track in enumerate(tracks):
                track.add_element(number, i)
            for query in queries:
                same = Matches(np.arange(len(points)), np.ones(len(points), np.float32))
                matches.write(query.name, image.name, same, len(points))
        matches.commit()
    for point, track in zip(points, tracks, strict=True):
        model.add_point3D(point, track, np.zeros(3, np.uint8))
    (folder / "sfm").mkdir()
    model.write(folder / "sfm")
    names = [image.name for image in images[QUERIES:]]
    return folder, queries, truth, names


def register(scene, pairs, queries=None):
    folder, everything, *_ = scene
    arguments = folder / "sfm", queries or everything, pairs, folder / "f.h5", folder / "m.h5", folder / "q.db"
    return register_queries(*arguments, threads=1, progress=False)


def test_queries_get_their_true_poses(scene):
    _, queries, truth, names = scene
    poses = register(scene, [(query.name, name) for query in queries for name in names])
    assert set(poses) == set(truth)
    for name, pose in poses.items():
        np.testing.assert_allclose(pose.matrix(), truth[name].matrix(), atol=1e-3)


def test_two_partners_are_enough_and_none_gives_none(scene):
    """The model has images that no query was matched with."""
    _, queries, truth, names = scene
    poses = register(scene, [(queries[0].name, name) for name in names[:2]])
    assert list(poses) == [queries[0].name]
    np.testing.assert_allclose(poses[queries[0].name].matrix(), truth[queries[0].name].matrix(), atol=1e-3)
    assert register(scene, []) == {}


def test_intrinsics_are_taken_as_they_are(scene):
    """A camera that is said to have a longer focal length gives another pose, not another focal length."""
    _, queries, truth, names = scene
    given = queries[0].camera
    params = np.array(given.params)
    params[0] *= 1.05
    wrong = pycolmap.Camera(model=given.model, width=given.width, height=given.height, params=params)
    pairs = [(queries[0].name, name) for name in names]
    poses = register(scene, pairs, [Query(queries[0].name, wrong)])
    moved = poses[queries[0].name].inverse().translation - truth[queries[0].name].inverse().translation
    assert np.linalg.norm(moved) > 0.05
    with pycolmap.Database.open(scene[0] / "q.db") as db:
        image = next(image for image in db.read_all_images() if image.name == queries[0].name)
        assert list(db.read_camera(image.camera_id).params) == list(params)


def test_the_model_is_not_changed(scene):
    folder, queries, _, names = scene
    before = {path.name: path.read_bytes() for path in (folder / "sfm").iterdir()}
    register(scene, [(query.name, name) for query in queries for name in names])
    assert {path.name: path.read_bytes() for path in (folder / "sfm").iterdir()} == before
