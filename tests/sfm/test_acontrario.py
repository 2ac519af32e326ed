"""Pairs of unrelated images that pass COLMAP's verification."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from posfeat_hloc.features import Features, Matches
from posfeat_hloc.sfm.database import build_database, describe_database, verify
from posfeat_hloc.stores import FeatureStore, MatchStore
from tests.sfm.worlds import FOCAL, World, turned
from tests.sfm.worlds import SIZE as VIEW

SIZE = (1200, 800)
ROWS = np.array([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""Fundamental matrix of a camera that moved sideways: epipolar lines are rows."""


def database(folder: Path, second: np.ndarray, first: np.ndarray) -> Path:
    """Two images whose keypoints of equal number are matched."""
    with FeatureStore(folder / "f.h5", {}) as features:
        for name, xy in (("a.jpg", first), ("b.jpg", second)):
            flat = np.ones((len(xy), 1), np.float32)
            features.write(name, Features(xy.astype(np.float32), flat[:, 0], flat), SIZE)
        features.commit()
    with MatchStore(folder / "m.h5", {}) as matches:
        matches.write("a.jpg", "b.jpg", Matches(np.arange(len(first)), np.ones(len(first), np.float32)), len(second))
        matches.commit()
    names = ["a.jpg", "b.jpg"]
    build_database(
        folder / "d.db", folder, folder / "f.h5", folder / "m.h5", names, [("a.jpg", "b.jpg")], progress=False
    )
    return folder / "d.db"


def views(count: int, flat: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints of points in two views."""
    points = np.random.default_rng(2).uniform([-3, -2, 5], [3, 2, 5 if flat else 9], size=(count, 3))
    moved = points @ turned(5).T + np.array([0.8, 0.1, 0.3])
    first, second = (900 * p[:, :2] / p[:, 2:] + np.array(SIZE) / 2 for p in (points, moved))
    return first, second


def test_pairs_by_chance_are_turned_down(tmp_path: Path) -> None:
    first, second = np.random.default_rng(0).uniform(0, SIZE, size=(2, 1500, 2))
    path = database(tmp_path, second, first)
    pycolmap.geometric_verification(path)
    assert describe_database(path).inliers > 30  # COLMAP takes them for related
    verify(path)
    report = describe_database(path)
    assert (report.pairs, report.verified, report.inliers) == (1, 0, 0)
    with pycolmap.Database.open(path) as db:
        assert len(db.read_matches(1, 2)) == 1500  # the matches stay


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("true", [0, 600])
def test_pairs_with_known_focal_lengths(tmp_path: Path, seed: int, true: int) -> None:
    """COLMAP keeps the inliers of the essential or of the fundamental matrix, and calls both calibrated."""
    world = World(tmp_path / "d.db", seed=seed)
    first, second = np.random.default_rng(seed).uniform(0, VIEW, size=(2, 1500, 2))
    points = world.points(5000)
    moved = points @ turned(5).T + np.array([0.6, 0.1, 0.2])
    pixels = [FOCAL * p[:, :2] / p[:, 2:] + np.array(VIEW) / 2 for p in (points, moved)]
    seen = np.flatnonzero(np.all([((p > 0) & (p < VIEW)).all(axis=1) for p in pixels], axis=0))[:true]
    first[: len(seen)], second[: len(seen)] = pixels[0][seen], pixels[1][seen]
    for name, xy in (("a.jpg", first), ("b.jpg", second)):
        world.add(name, xy, np.arange(1500))
    world.match_all()
    report = describe_database(world.verified())
    assert report.verified == (1 if true else 0)
    assert report.inliers >= true


@pytest.mark.parametrize("flat", [False, True])
def test_true_pairs_with_mostly_wrong_matches_are_kept(tmp_path: Path, flat: bool) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.uniform(0, SIZE, size=(2, 1500, 2))
    first[:500], second[:500] = views(500, flat)
    verify(path := database(tmp_path, second, first))
    assert describe_database(path).inliers >= 500


def test_a_small_but_perfect_pair_is_kept(tmp_path: Path) -> None:
    first, second = views(16)
    verify(path := database(tmp_path, second, first))
    assert describe_database(path).inliers == 16
