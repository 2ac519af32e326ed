"""Pairs that pass COLMAP's verification by chance alone."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.features import Features, Matches
from posfeat_hloc.sfm.acontrario import log_chance, share_by_chance
from posfeat_hloc.sfm.database import build_database, describe_database, verify
from posfeat_hloc.stores import FeatureStore, MatchStore
from tests.sfm.worlds import FOCAL, World, turned
from tests.sfm.worlds import SIZE as VIEW

SIZE = (1200, 800)
ROWS = np.array([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""Fundamental matrix of a camera that moved sideways: epipolar lines are rows."""


@given(st.integers(8, 60), st.integers(0, 60), st.fractions(Fraction(1, 100), Fraction(9, 10)))
def test_expected_geometries_by_exact_sums(matches: int, inliers: int, share: Fraction) -> None:
    inliers = min(inliers, matches)
    found = log_chance(matches, inliers, float(share))
    if inliers <= 7:
        assert found == math.inf  # any seven matches have a geometry
        return
    others = matches - 7
    tail = sum(math.comb(others, k) * share**k * (1 - share) ** (others - k) for k in range(inliers - 7, others + 1))
    assert found == pytest.approx(math.log(3 * math.comb(matches, 7) * tail), abs=1e-6)


def test_what_two_photographs_without_anything_in_common_gave() -> None:
    """58 inliers of 1623 matches, 1.4 % of random ones fit; 125 of 1736 at 1.9 % are of two views of one street."""
    assert log_chance(1623, 58, 0.0138) > 20
    assert log_chance(1736, 125, 0.0194) < -20


def test_the_share_of_random_matches_that_fit_rows() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.uniform(0, SIZE, size=(2, 3000, 2))
    # Sampson's error is the difference of the rows by the square root of two
    half = 4 * math.sqrt(2) / SIZE[1]
    assert share_by_chance(first, second, ROWS, 4.0) == pytest.approx(2 * half - half**2, rel=0.15)
    second[:, 1] = first[:, 1]  # all true, which exchanged matches do not show
    assert share_by_chance(first, second, ROWS, 4.0) == pytest.approx(2 * half - half**2, rel=0.15)


def test_a_few_matches_are_not_compared_with_themselves() -> None:
    points = np.array([[10.0, 0], [500, 200], [900, 400], [1000, 600]])
    assert share_by_chance(points, points, ROWS, 4.0) < 1e-3


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
