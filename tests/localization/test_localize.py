"""Poses against the truth, whatever the order, the number of threads and the interruptions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from posfeat_hloc.errors import ConfigurationError, MappingError, StoreError
from posfeat_hloc.features import Matches
from posfeat_hloc.localization.localize import check_same_feature, localize
from posfeat_hloc.localization.maps import SparseMap
from posfeat_hloc.localization.options import PoseOptions
from posfeat_hloc.localization.pose_problem import PoseProblem
from posfeat_hloc.localization.queries import Query
from posfeat_hloc.localization.results import read_log
from posfeat_hloc.stores import FeatureStore, MatchStore
from tests.localization.scenes import CONFIGURATION, FOCAL, camera, features_of, look, make_scene, pose_error

MAP = {"db/0.jpg": look(-1.0), "db/1.jpg": look(0.0, turn=0.1), "db/2.jpg": look(1.0, 0.3)}
QUERIES = {"q/a b.jpg": look(0.4, 0.2, -0.1), "q/b.jpg": look(-0.5, -0.2, 0.05), "q/c.jpg": look(0.1)}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("scene"), MAP, QUERIES)


def run(scene, queries=None, pairs=None, log=None, **options):
    return localize(
        scene.model,
        scene.queries if queries is None else queries,
        scene.pairs if pairs is None else pairs,
        scene.features,
        scene.matches,
        PoseOptions(**{"threads": 1, **options}),
        log,
        progress=False,
    )


def content(results):
    return [{**found.as_dict(), "seconds": 0} for found in results.values()]


def test_exact_matches_with_a_third_of_outliers_give_exact_poses(scene):
    results = run(scene)
    assert list(results) == scene.names
    for name, found in results.items():
        assert found.localized
        distance, angle = pose_error(found.cam_from_world, scene.poses[name])
        assert distance < 1e-3
        assert angle < 1e-2
        assert found.images == tuple(MAP)
        assert found.focal_length == FOCAL
        assert found.inliers < found.matches < 3 * len(scene.keypoints[name])


def test_a_shift_of_half_a_pixel_would_be_seen(scene):
    """The intrinsics of queries are COLMAP's: a principal point off by the half pixel turns the pose."""
    query = Query(scene.names[0], camera())
    query.camera.params = [FOCAL, 500 - 0.5, 400 - 0.5]
    found = run(scene, [query])[query.name]
    expected = np.degrees(np.hypot(0.5, 0.5) / FOCAL)
    assert abs(pose_error(found.cam_from_world, scene.poses[query.name])[1] - expected) < 0.2 * expected


def test_matches_are_counted_once(scene):
    """Three map images that show the same 3D point to the same keypoint are one match."""
    with MatchStore(scene.matches) as store:
        expected = set()
        for image in MAP:
            matches = store.read("q/b.jpg", image)
            expected |= {(i, int(scene.seen[image][j])) for i, j in matches.pairs() if scene.seen[image][j] >= 0}
    assert run(scene)["q/b.jpg"].matches == len(expected)


def test_threads_and_the_order_of_queries_do_not_matter(scene):
    one = content(run(scene))
    assert content(run(scene, threads=4)) == one
    backwards = run(scene, scene.queries[::-1], threads=2)
    assert content(backwards) == one[::-1]


def test_another_seed_may_sample_otherwise_but_finds_the_pose(scene):
    found = run(scene, seed=7)["q/c.jpg"]
    assert pose_error(found.cam_from_world, scene.poses["q/c.jpg"])[0] < 1e-3


def test_an_unknown_focal_length_is_found(scene):
    guess = camera(1.2 * 1000)
    guess.has_prior_focal_length = False
    exif = camera(1.03 * FOCAL)
    found = run(scene, [Query("q/b.jpg", guess, calibrated=False), Query("q/c.jpg", exif, calibrated=False)])
    for name, result in found.items():
        assert abs(result.focal_length - FOCAL) < 1
        assert pose_error(result.cam_from_world, scene.poses[name])[0] < 0.01
    assert guess.params[0] == 1200  # the caller's camera is not touched


def test_an_interrupted_run_goes_on_and_ends_like_an_undisturbed_one(scene, tmp_path, monkeypatch):
    undisturbed = content(run(scene, log=tmp_path / "whole.jsonl"))
    solve, calls = PoseProblem.solve, []

    def stop_at_the_third(problem, options):
        calls.append(problem.query.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return solve(problem, options)

    monkeypatch.setattr(PoseProblem, "solve", stop_at_the_third)
    log = tmp_path / "log.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(scene, log=log)
    assert list(read_log(log)) == scene.names[:2]
    log.write_bytes(log.read_bytes() + b'{"name": "q/c.jpg", "matc')  # and one line was being written
    assert content(run(scene, log=log)) == undisturbed
    assert calls[3:] == ["q/c.jpg"]
    assert content(read_log(log)) == undisturbed
    assert [json.loads(line)["name"] for line in log.read_text().splitlines()] == scene.names


def test_what_changed_is_estimated_again(scene, tmp_path, monkeypatch):
    log = tmp_path / "log.jsonl"
    run(scene, log=log)
    calls = []
    solve = PoseProblem.solve
    monkeypatch.setattr(
        PoseProblem, "solve", lambda problem, options: (calls.append(problem.query.name), solve(problem, options))[1]
    )
    run(scene, log=log, threads=3, fallback="closest")
    assert calls == []
    run(scene, [replace(q, camera=camera(FOCAL + 1)) if q.name == "q/b.jpg" else q for q in scene.queries], log=log)
    assert calls == ["q/b.jpg"]
    run(scene, log=log, max_error=8)
    assert len(calls) == 4
    run(scene, log=log, max_error=8, pairs=[p for p in scene.pairs if p != ("q/c.jpg", "db/0.jpg")])
    assert calls[4:] == ["q/c.jpg"]


def test_queries_that_cannot_be_localized_have_no_pose_and_a_reason(tmp_path):
    scene = make_scene(tmp_path, MAP, QUERIES)
    with MatchStore(scene.matches, {"model": {"name": "truth"}}) as store:
        rng = np.random.default_rng(1)
        for image in MAP:
            count = len(scene.keypoints["q/a b.jpg"])
            store.write("q/a b.jpg", image, Matches.empty(count), 9)
            count, other = len(scene.keypoints["q/b.jpg"]), len(scene.keypoints[image])
            store.write("q/b.jpg", image, Matches(rng.integers(0, other, count), np.ones(count, np.float32)), other)
        store.commit()
    queries = [*scene.queries, Query("q/none.jpg", camera())]
    pairs = [*scene.pairs, ("q/none.jpg", "db/0.jpg")]
    results = run(scene, queries, pairs)
    assert [found.localized for found in results.values()] == [False, False, True, False]
    assert all((found.cam_from_world is None) == (not found.localized) for found in results.values())
    assert results["q/a b.jpg"].reason == "no pose fits its 0 matches with 3D points"
    assert "are needed" in results["q/b.jpg"].reason
    assert "no features" in results["q/none.jpg"].reason
    closest = run(scene, queries, pairs, fallback="closest")
    assert [found.localized for found in closest.values()] == [False, False, True, False]
    for name in ("q/a b.jpg", "q/b.jpg", "q/none.jpg"):
        assert closest[name].fallback == "db/0.jpg"
        np.testing.assert_allclose(closest[name].cam_from_world.matrix(), MAP["db/0.jpg"].matrix(), atol=1e-12)
    assert closest["q/c.jpg"].fallback == ""


def test_pairs_with_images_outside_the_model_are_left_out(scene):
    only = [("q/b.jpg", "gone.jpg"), ("q/c.jpg", "gone.jpg"), ("q/c.jpg", "db/1.jpg")]
    results = run(scene, pairs=only, fallback="closest")
    assert results["q/a b.jpg"].reason == "no pair with an image of the map"
    assert results["q/b.jpg"].reason == "none of its 1 map images has a pose"
    assert results["q/b.jpg"].cam_from_world is None
    assert results["q/c.jpg"].images == ("db/1.jpg",)
    assert results["q/c.jpg"].localized


def test_a_camera_of_another_size_is_not_used(scene):
    half = camera()
    half.rescale(500, 400)
    found = run(scene, [Query("q/b.jpg", half)])["q/b.jpg"]
    assert not found.localized
    assert "500x400" in found.reason
    assert "1000x800" in found.reason


def test_with_clusters_the_one_with_most_inliers_wins(tmp_path):
    """Two copies of a place far apart; the query sees the second, the matches with the first are wrong."""
    rng = np.random.default_rng(3)
    near = rng.uniform([-4, -3, 5], [4, 3, 10], (100, 3))
    points = np.concatenate([near, near + np.array([100, 0, 0])])
    poses = {"0.jpg": look(-1), "1.jpg": look(0), "2.jpg": look(1), "3.jpg": look(99.5), "4.jpg": look(100.5)}
    scene = make_scene(tmp_path, poses, {"q.jpg": look(100.0, 0.1)}, 0.2, points=points)
    with MatchStore(scene.matches, {"model": {"name": "truth"}}) as store:
        count = len(scene.keypoints["q.jpg"])
        for image in ("0.jpg", "1.jpg", "2.jpg"):
            where = {point + 100: row for row, point in enumerate(scene.seen[image]) if point >= 0}
            indices = np.array([where.get(point, -1) for point in scene.seen["q.jpg"]])
            indices[::2] = -1  # the same pattern, half as often
            store.write("q.jpg", image, Matches(indices, np.ones(count, np.float32)), 500)
        store.commit()
    found = run(scene, covisibility_clustering=True)["q.jpg"]
    assert found.clusters == 2
    assert found.images == ("3.jpg", "4.jpg")
    assert pose_error(found.cam_from_world, scene.poses["q.jpg"])[0] < 1e-3
    assert found.inliers <= found.matches < run(scene)["q.jpg"].matches


@pytest.mark.parametrize("clustering", [False, True])
def test_without_map_images_there_is_no_pose(scene, clustering):
    problem = PoseProblem.of(scene.queries[0], scene.keypoints[scene.names[0]], {}, SparseMap(scene.model))
    found = problem.solve(PoseOptions(covisibility_clustering=clustering))
    assert not found.localized
    assert found.cam_from_world is None


def test_a_map_of_another_feature_is_refused(scene, tmp_path):
    other = tmp_path / "other.h5"

    def write(keypoints, configuration=CONFIGURATION):
        other.unlink(missing_ok=True)
        with FeatureStore(other, configuration) as store:
            for name in MAP:
                store.write(name, features_of(keypoints[name]), (1000, 800))
            store.commit()

    def attempt():
        localize(scene.model, scene.queries, scene.pairs, scene.features, scene.matches, None, None, other, False)

    write({name: scene.keypoints[name][:-1] for name in MAP})
    count = len(scene.keypoints["db/0.jpg"])
    with pytest.raises(
        MappingError, match=rf"'db/0\.jpg' has {count} keypoints in the model and {count - 1} in .*other"
    ):
        attempt()
    write({name: scene.keypoints[name][::-1] for name in MAP})
    with pytest.raises(MappingError, match=r"px from those in .*other\.h5"):
        attempt()
    write(scene.keypoints, {**CONFIGURATION, "model": {"name": "another"}})
    with pytest.raises(ConfigurationError, match="holds test, but the map was made with another"):
        attempt()
    write(scene.keypoints, {**CONFIGURATION, "weights": "abc"})
    with pytest.raises(ConfigurationError, match="different weights"):
        attempt()
    write(scene.keypoints)
    attempt()


def test_matches_of_other_keypoints_are_refused(scene, tmp_path):
    with MatchStore(tmp_path / "m.h5", {"model": {}}) as store:
        for query, image in scene.pairs:
            store.write(query, image, Matches.empty(7), 9)
        store.commit()
    with pytest.raises(MappingError, match="match again"):
        localize(scene.model, scene.queries, scene.pairs, scene.features, tmp_path / "m.h5", progress=False)
    with MatchStore(tmp_path / "none.h5", {"model": {}}) as store:
        store.commit()
    with pytest.raises(StoreError, match="match this pair first"):
        localize(scene.model, scene.queries, scene.pairs, scene.features, tmp_path / "none.h5", progress=False)


def test_wrong_calls_are_named(scene, tmp_path):
    with pytest.raises(ConfigurationError, match=r"'q/b\.jpg' is among the queries 2 times"):
        run(scene, [Query("q/b.jpg", camera()), Query("q/b.jpg", camera())])
    with pytest.raises(ConfigurationError, match="fallback: 'nearest' is not one of closest"):
        run(scene, fallback="nearest")
    with pytest.raises(ConfigurationError, match="max_error"):
        run(scene, max_error=0)
    with pytest.raises(ConfigurationError, match="seed must be"):
        run(scene, seed=-1)
    (tmp_path / "log.jsonl").write_text("not a log\n")
    with pytest.raises(ConfigurationError, match=r"log\.jsonl, line 1"):
        run(scene, log=tmp_path / "log.jsonl")


def test_files_without_a_record_are_taken_as_they_are():
    """hloc's say nothing of their configuration."""
    ours = SimpleNamespace(configuration=CONFIGURATION, path=Path("ours.h5"))
    theirs = SimpleNamespace(configuration=None, path=Path("theirs.h5"))
    for first, second in ((ours, theirs), (theirs, ours), (theirs, theirs), (ours, ours)):
        check_same_feature(first, second)
    other = SimpleNamespace(configuration=CONFIGURATION | {"weights": "x"}, path=Path("other.h5"))
    with pytest.raises(ConfigurationError, match=r"other\.h5.*weights"):
        check_same_feature(ours, other)
