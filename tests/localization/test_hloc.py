"""The same files through hloc's own localization: the same clusters, matches and poses."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from posfeat_hloc.localization.localize import localize
from posfeat_hloc.localization.maps import SparseMap
from posfeat_hloc.localization.pose_problem import covisibility_clusters
from posfeat_hloc.localization.results import read_results
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.stores.pairs import write_pairs
from tests.localization.scenes import FOCAL, look, make_scene, pose_error

pytestmark = pytest.mark.hloc


@pytest.fixture
def hloc():
    return pytest.importorskip("hloc.localize_sfm", reason="needs hloc from GitHub")


def test_hloc_finds_the_same_poses_from_the_same_files(hloc, tmp_path):
    map_poses = {"db/0.jpg": look(-1.0), "db/1.jpg": look(0.0, turn=0.1), "db/2.jpg": look(1.0, 0.3)}
    scene = make_scene(tmp_path, map_poses, {"q/a.jpg": look(0.4, 0.2, -0.1), "q/b.jpg": look(-0.5)}, noise=0.5)
    queries, pairs, poses = tmp_path / "queries.txt", tmp_path / "pairs.txt", tmp_path / "poses.txt"
    queries.write_text("".join(f"{name} SIMPLE_PINHOLE 1000 800 {FOCAL} 500 400\n" for name in scene.names))
    write_pairs(pairs, scene.pairs)
    hloc.main(scene.model, queries, pairs, scene.features, scene.matches, poses)
    theirs = read_results(poses)
    with (tmp_path / "poses.txt_logs.pkl").open("rb") as file:
        logs = pickle.load(file)["loc"]
    ours = localize(scene.model, scene.queries, scene.pairs, scene.features, scene.matches, progress=False)
    for name, found in ours.items():
        distance, angle = pose_error(found.cam_from_world, theirs[name.rpartition("/")[2]])
        assert distance < 0.01
        assert angle < 0.05
        assert found.matches == len(logs[name]["points3D_ids"])
        assert abs(found.inliers - logs[name]["PnP_ret"]["num_inliers"]) <= 2


def test_hloc_groups_map_images_alike(hloc, tmp_path):
    rng = np.random.default_rng(0)
    near = rng.uniform([-4, -3, 5], [4, 3, 10], (30, 3))
    points = np.concatenate([near, near + np.array([100, 0, 0])])
    poses = {"a": look(0), "b": look(100), "c": look(1), "d": look(101), "e": look(99), "f": look(300)}
    scene = make_scene(tmp_path, poses, {"q": look(0)}, points=points)
    sparse, model = SparseMap(scene.model), read_model(scene.model)
    names = ["d", "a", "f", "c", "b", "e"]
    ids = {image.name: number for number, image in model.images.items()}
    theirs = hloc.do_covisibility_clustering([ids[name] for name in names], model)
    ours = covisibility_clusters([sparse.point_ids(name) for name in names])
    assert [{ids[names[i]] for i in cluster} for cluster in ours] == [set(cluster) for cluster in theirs]
    assert [len(cluster) for cluster in ours] == [3, 2, 1]
