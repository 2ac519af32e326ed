"""Which model, features and configuration a folder holds."""

from __future__ import annotations

import json
import pickle

import h5py
import numpy as np
import pytest

from posfeat_hloc import confs, extractors
from posfeat_hloc.errors import ConfigurationError, StoreError
from posfeat_hloc.extract_features import configuration
from posfeat_hloc.localization.maps import MapExcerpt, SparseMap, open_map
from posfeat_hloc.localization.options import PoseOptions
from posfeat_hloc.localization.pose_problem import PoseProblem
from posfeat_hloc.stores import FeatureStore, MatchStore
from posfeat_hloc.weights import BUNDLED
from tests.localization.scenes import features_of, look, make_scene


def make_map(folder, recorded, command=None):
    (folder / "sparse/0").mkdir(parents=True)
    (folder / "sparse/0/images.bin").touch()
    (folder / "summary.json").write_text(json.dumps({"command": command or {}}))
    with FeatureStore(folder / "features.h5", recorded) as store:
        store.write("a.jpg", features_of(np.zeros((3, 2), np.float32)), (9, 9))
        store.commit()
    return folder


def record(name, weights="", **changes):
    conf = confs.extractors[name]
    model = {k: v for k, v in conf["model"].items() if k not in ("weights", "precision")} | changes
    return {"model": model, "weights": weights, "preprocessing": {**conf["preprocessing"], "resize_max": 640}}


@pytest.mark.parametrize("name", sorted(confs.extractors))
def test_every_feature_is_told_from_its_record(name):
    assert confs.name_of(record(name, max_keypoints=77)) == name


def test_settings_of_the_map_are_taken_over(tmp_path):
    found = open_map(make_map(tmp_path, record("sift", max_keypoints=500), {"images": "photos"}))
    assert found.feature == "sift"
    assert found.model == tmp_path / "sparse/0"
    assert found.features == tmp_path / "features.h5"
    assert found.conf["model"] == {**confs.extractors["sift"]["model"], "max_keypoints": 500}
    assert found.conf["preprocessing"]["resize_max"] == 640
    assert str(found.images) == "photos"
    assert confs.extractors["sift"]["preprocessing"]["resize_max"] == confs.RESIZE_MAX


@pytest.mark.skipif("sosnet" not in BUNDLED, reason="no SOSNet weights are shipped")
def test_weights_are_found_by_their_hash_the_command_line_or_the_user(tmp_path):
    bundled = make_map(tmp_path / "a", record("d2d-hardnet", BUNDLED["sosnet"].sha256), {"weights": "elsewhere.pth"})
    assert open_map(bundled).conf["model"]["weights"] == "sosnet"
    own = make_map(tmp_path / "b", record("d2d-hardnet", "12ab"), {"weights": "elsewhere.pth"})
    assert open_map(own).conf["model"]["weights"] == "elsewhere.pth"
    assert open_map(own, weights_file="mine.pth").conf["model"]["weights"] == "mine.pth"
    unknown = open_map(make_map(tmp_path / "c", record("d2d-hardnet", "12ab")))
    extractor = extractors.create(unknown.conf["model"])
    own_hash = BUNDLED["hardnet"].sha256[:6]
    with pytest.raises(ConfigurationError, match=rf"d2d-hardnet.* SHA-256 12ab, and the present ones have {own_hash}"):
        unknown.check_extractor(extractor)
    right = make_map(tmp_path / "d", configuration(confs.extractors["d2d-hardnet"], extractor))
    open_map(right).check_extractor(extractor)


def test_files_of_other_programs_need_the_name_of_the_feature(tmp_path):
    folder = make_map(tmp_path, record("sift"))
    with h5py.File(folder / "features.h5", "r+") as file:
        del file.attrs["posfeat_hloc"]
    with pytest.raises(ConfigurationError, match="name the feature"):
        open_map(folder)
    assert open_map(folder, feature="sift").conf == confs.extractors["sift"]
    with pytest.raises(ConfigurationError, match="'orb' does not exist"):
        open_map(folder, feature="orb")


def test_another_feature_is_refused_with_both_names(tmp_path):
    folder = make_map(tmp_path, record("sift"))
    with pytest.raises(ConfigurationError, match="made with sift, not with d2d-hardnet"):
        open_map(folder, feature="d2d-hardnet")


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(ConfigurationError, match="no COLMAP model here"):
        open_map(tmp_path)
    folder = make_map(tmp_path / "map", record("sift"))
    with pytest.raises(ConfigurationError, match="give the features"):
        open_map(folder / "sparse/0")
    assert open_map(folder / "sparse/0", folder / "features.h5").model == folder / "sparse/0"
    with pytest.raises(StoreError, match=r"none\.h5"):
        open_map(folder, tmp_path / "none.h5")
    (folder / "features.h5.journal").touch()
    with pytest.raises(ConfigurationError, match="was interrupted"):
        open_map(folder)
    assert (folder / "features.h5.journal").exists()


def test_a_map_of_an_earlier_version_is_read_as_it_was_made(tmp_path):
    recorded = record("posfeat-small")
    for later in ("min_contrast", "spread"):
        del recorded["model"][later]
    found = open_map(make_map(tmp_path, recorded))
    assert found.feature == "posfeat-small"
    assert found.conf["model"] == {**recorded["model"], "weights": "posfeat-small"}


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
