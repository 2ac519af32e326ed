"""A query travels with the part of the map it needs, and is solved there as here."""

import pickle

import numpy as np
import pytest

from posfeat_hloc.localization.options import PoseOptions
from posfeat_hloc.localization.pose_problem import PoseProblem
from posfeat_hloc.localization.sparse_map import MapExcerpt, SparseMap
from posfeat_hloc.stores import FeatureStore, MatchStore
from tests.localization.scenes import look, make_scene


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    scene = make_scene(
        tmp_path_factory.mktemp("scene"), {f"map{i}": look(i - 1.0) for i in range(3)}, {"query": look(0.4)}
    )
    with FeatureStore(scene.features) as features, MatchStore(scene.matches) as matches:
        found = {f"map{i}": matches.read("query", f"map{i}") for i in range(2)}
        return PoseProblem.of(scene.queries[0], features.keypoints("query"), found, SparseMap(scene.model))


@pytest.mark.parametrize("clustering", [False, True])
def test_the_pose_is_the_same(problem, clustering):
    options = PoseOptions(covisibility_clustering=clustering)
    travelled = pickle.loads(pickle.dumps(problem))
    assert isinstance(travelled.sparse, MapExcerpt)
    here, there = (
        {**p.solve(options).as_dict(), "seconds": 0} for p in (problem, pickle.loads(pickle.dumps(travelled)))
    )
    assert here["localized"]
    assert here == there
    assert problem.key(options) == travelled.key(options)


def test_it_holds_what_was_asked_for_and_no_more(problem):
    excerpt = pickle.loads(pickle.dumps(problem)).sparse
    used = np.unique(np.concatenate([pairs[:, 1] for pairs in problem.matches]))
    assert set(excerpt.observed) == {"map0", "map1"}
    np.testing.assert_array_equal(excerpt.ids, used)
    ids = used[[3, 0, 3]]
    np.testing.assert_array_equal(excerpt.positions(ids), problem.sparse.positions(ids))
    assert excerpt.positions(ids).shape == (3, 3)
