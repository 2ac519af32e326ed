"""Which keypoints and pairs the two stages take, and that the fine stage ends where all keypoints at once end."""

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from posfeat_hloc.detection.selection import spread
from posfeat_hloc.features import Features
from posfeat_hloc.sfm import stages
from posfeat_hloc.sfm.reconstruction import MapperOptions
from posfeat_hloc.sfm.refinement import refine
from posfeat_hloc.sfm.stages import fine_pairs, is_worthwhile, left_over_pairs, write_coarse_features
from posfeat_hloc.stores import FeatureStore
from tests.sfm.worlds import World, turned


@pytest.fixture
def features(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    with FeatureStore(tmp_path / "f.h5", {"model": {"name": "x"}}) as store:
        for name, n in (("a.jpg", 900), ("b/c.jpg", 100), ("d.jpg", 0)):
            keypoints = (rng.random((n, 2)) * 500).astype(np.float32)
            values = Features(keypoints, rng.random(n).astype(np.float32), rng.random((n, 4)).astype(np.float32))
            store.write(name, values, (500, 500), uncertainty=1.7)
        store.commit()
    return tmp_path / "f.h5"


def test_coarse_features_are_strong_and_spread(features: Path, tmp_path: Path) -> None:
    names, coarse = ["a.jpg", "b/c.jpg", "d.jpg"], tmp_path / "c.h5"
    write_coarse_features(features, coarse, names, 200)
    with FeatureStore(features) as source, FeatureStore(coarse) as store:
        everything, found = source.read("a.jpg"), store.read("a.jpg")
        kept = spread(everything.keypoints, everything.scores, 200)
        np.testing.assert_array_equal(found.keypoints, everything.keypoints[kept])
        np.testing.assert_array_equal(found.descriptors, everything.descriptors[kept])
        assert [len(store.keypoints(name)) for name in names] == [200, 100, 0]
        assert store.image_size("a.jpg") == (500, 500)
        assert store.uncertainty("a.jpg") == 1.7
    before = coarse.read_bytes()
    write_coarse_features(features, coarse, names, 200)
    assert coarse.read_bytes() == before
    write_coarse_features(features, coarse, names, 50)
    with FeatureStore(coarse) as store:
        assert [len(store.keypoints(name)) for name in names] == [50, 50, 0]


def test_a_coarse_stage_pays_where_half_of_the_images_have_twice_its_keypoints(features: Path) -> None:
    assert is_worthwhile(features, ["a.jpg", "d.jpg"], 450)
    assert not is_worthwhile(features, ["a.jpg", "d.jpg"], 451)
    assert not is_worthwhile(features, ["a.jpg", "b/c.jpg", "d.jpg"], 60)
    assert not is_worthwhile(features, ["a.jpg"], 0)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pycolmap.Reconstruction, dict[str, np.ndarray]]:
    """Seven cameras in a row, verified and mapped, with the true centres."""
    folder = tmp_path_factory.mktemp("world")
    made = World(folder / "database.db", noise=0.5)
    points = made.points(900)
    centres = {f"{i}.jpg": np.array([0.5 * i - 1.5, 0.1 * (i % 3), 0.2 * (i % 2)]) for i in range(7)}
    for i, (name, centre) in enumerate(centres.items()):
        made.image(name, points, turned(3.0 * (i - 3)), centre)
    made.match_all()
    path = made.verified()
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = options.num_threads = 1
    options.ba_refine_focal_length = options.ba_refine_extra_params = False
    options.extract_colors = False
    models = pycolmap.incremental_mapping(path, folder, folder, options)
    return path, models[0], centres


def centre_errors(model: pycolmap.Reconstruction, centres: dict[str, np.ndarray]) -> np.ndarray:
    names = sorted(centres)
    where = {image.name: image.projection_center() for image in model.images.values()}
    found, true = np.array([where[n] for n in names]), np.array([centres[n] for n in names])
    return np.linalg.norm(pycolmap.estimate_sim3d(found, true) * found - true, axis=1)


def test_refinement_mends_poses_and_keeps_known_intrinsics(world) -> None:
    path, mapped, centres = world
    assert mapped.num_reg_images() == 7
    model = pycolmap.Reconstruction(mapped)
    points, errors = mapped.num_points3D(), centre_errors(mapped, centres)
    rng = np.random.default_rng(3)
    for frame in model.frames.values():
        pose = frame.rig_from_world
        frame.rig_from_world = pycolmap.Rigid3d(pose.rotation, pose.translation + rng.normal(scale=0.004, size=3))
    assert centre_errors(model, centres).max() > 2 * errors.max()
    refine(model, path, MapperOptions(threads=1, refine_intrinsics=False))
    assert centre_errors(model, centres).max() < 1.3 * errors.max() + 1e-4
    assert model.num_points3D() > 0.98 * points
    assert all(camera.params[0] == 600.0 for camera in model.cameras.values())
    assert model.compute_mean_reprojection_error() < 1.05 * mapped.compute_mean_reprojection_error()


def test_images_are_paired_with_those_that_see_the_same(world, monkeypatch: pytest.MonkeyPatch) -> None:
    _, model, _ = world
    monkeypatch.setattr(stages, "NEIGHBORS", 2)
    monkeypatch.setattr(stages, "MOST_NEIGHBORS", 4)
    few = fine_pairs([model], [])[0]
    assert ("0.jpg", "1.jpg") in few
    assert ("0.jpg", "6.jpg") not in few
    everyone = [(f"{i}.jpg", f"{j}.jpg") for i in range(7) for j in range(i)]
    many = fine_pairs([model], everyone)[0]
    assert set(few) < set(many)
    assert all(a < b for a, b in many)
    assert len(many) == len(set(many))


def test_pairs_of_two_models_are_matched_once(world) -> None:
    _, model, _ = world
    first, second = fine_pairs([model, model], [])
    assert first
    assert second == []


def test_images_without_a_pose_keep_all_their_pairs() -> None:
    pairs = [("a", "b"), ("a", "x"), ("x", "y"), ("b", "c")]
    assert left_over_pairs(pairs, ["a", "b", "c"]) == [("a", "x"), ("x", "y")]
