import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.evaluation.homography import (
    evaluate_mma,
    homography_error,
    match_errors,
    matching_accuracy,
    mma_score,
    project,
    repeatability,
)
from posfeat_hloc.evaluation.sequences import ImageSequence
from posfeat_hloc.features import Features
from posfeat_hloc.stores import FeatureStore


def test_errors_are_distances_after_the_homography():
    homography = np.array([[2.0, 0, 3], [0, 2, -1], [0, 0, 1]])
    keypoints0 = np.array([[1.0, 1], [5, 7], [0, 0]])
    keypoints1 = np.array([[3.0, 2], [5, 1]])
    pairs = np.array([[0, 1], [2, 0]])
    # (1, 1) -> (5, 1), exact; (0, 0) -> (3, -1), three below (3, 2)
    np.testing.assert_allclose(match_errors(keypoints0, keypoints1, pairs, homography), [0, 3])


def test_perspective_division():
    homography = np.array([[1.0, 0, 0], [0, 1, 0], [0.5, 0, 1]])
    errors = match_errors(np.array([[2.0, 4]]), np.array([[1.0, 2]]), np.array([[0, 0]]), homography)
    np.testing.assert_allclose(errors, [0])


def test_a_point_that_goes_to_infinity_is_never_right():
    homography = np.array([[1.0, 0, 0], [0, 1, 0], [-0.5, 0, 1]])
    points = np.array([[2.0, 4], [0, 0]])
    errors = match_errors(points, points, np.array([[0, 0], [1, 1]]), homography)
    np.testing.assert_array_equal(matching_accuracy(errors), np.full(10, 0.5))


def test_accuracy_counts_matches_within_each_threshold():
    curve = matching_accuracy(np.array([0.5, 1.0, 2.5, 100.0]))
    np.testing.assert_allclose(curve, [0.5, 0.5, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75])
    np.testing.assert_array_equal(matching_accuracy(np.zeros(0)), np.zeros(10))


def test_score_weights_small_thresholds_more():
    assert mma_score(np.ones(10)) == pytest.approx(1)
    only_first, only_last = np.eye(10)[0], np.eye(10)[9]
    assert mma_score(only_first) == pytest.approx(1.9 / 14.5)
    assert mma_score(only_last) == pytest.approx(1.0 / 14.5)


COUNTS = {"v_a": [12, 9, 15, 11, 8, 10], "i_b": [7, 12, 9, 0, 13, 5]}  # the fourth image of i_b has no keypoints


def sequence(name, change, rng):
    homographies = tuple(
        np.eye(3) + rng.normal(scale=[[0.02, 0.02, 2], [0.02, 0.02, 2], [1e-4, 1e-4, 0]]) for _ in range(5)
    )
    return ImageSequence(name, change, tuple(f"{name}/{i}.ppm" for i in range(1, 7)), homographies)


def slow_mutual_matches(d0, d1):
    """By three loops, in float64."""
    if len(d0) == 0 or len(d1) == 0:
        return []
    similarity = [[sum(x * y for x, y in zip(a, b, strict=True)) for b in d1.tolist()] for a in d0.tolist()]
    best1 = [max(range(len(d1)), key=lambda j: row[j]) for row in similarity]
    best0 = [max(range(len(d0)), key=lambda i: similarity[i][j]) for j in range(len(d1))]
    return [(i, j) for i, j in enumerate(best1) if best0[j] == i]


@pytest.fixture
def measured(tmp_path):
    rng = np.random.default_rng(4)
    sequences = [sequence("i_b", "illumination", rng), sequence("v_a", "viewpoint", rng)]
    features = {}
    with FeatureStore(tmp_path / "f.h5", {}) as store:
        for s in sequences:
            points = rng.uniform(20, 80, (15, 2))
            looks = rng.normal(size=(15, 6))
            for k, name in enumerate(s.images):
                count = COUNTS[s.name][k]
                moved = np.c_[points, np.ones(15)] @ (np.eye(3) if k == 0 else s.homographies[k - 1]).T
                keypoints = (moved[:, :2] / moved[:, 2:] + rng.normal(scale=3, size=(15, 2)))[:count]
                descriptors = (looks + rng.normal(scale=0.3, size=(15, 6)))[:count]
                descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
                features[name] = Features(
                    keypoints.astype(np.float32), rng.uniform(size=count).astype(np.float32),
                    descriptors.astype(np.float16).astype(np.float32),
                )  # fmt: skip
                store.write(name, features[name], (100, 100))
        store.commit()
    return sequences, features, tmp_path / "f.h5"


def test_curves_agree_with_slow_loops(measured, tmp_path):
    sequences, features, path = measured
    result = evaluate_mma(path, sequences, {"name": "nearest"}, tmp_path / "r.jsonl", progress=False)
    accuracy, counts, empty = {}, [], 0
    for s in sequences:
        accuracy[s.name] = []
        for k in range(1, 6):
            f0, f1 = features[s.images[0]], features[s.images[k]]
            matches = slow_mutual_matches(f0.descriptors, f1.descriptors)
            counts.append(len(matches))
            empty += not matches
            right = [0] * 10
            for i, j in matches:
                x, y, w = s.homographies[k - 1] @ [*f0.keypoints[i].astype(float), 1.0]
                distance = np.hypot(x / w - f1.keypoints[j][0], y / w - f1.keypoints[j][1])
                for t in range(10):
                    right[t] += distance <= t + 1
            accuracy[s.name].append([r / len(matches) if matches else 0.0 for r in right])
    pairs = accuracy["i_b"] + accuracy["v_a"]
    np.testing.assert_allclose(result.curves["overall"], np.mean(pairs, axis=0), atol=1e-12)
    np.testing.assert_allclose(result.curves["illumination"], np.mean(accuracy["i_b"], axis=0), atol=1e-12)
    np.testing.assert_allclose(result.curves["viewpoint"], np.mean(accuracy["v_a"], axis=0), atol=1e-12)
    np.testing.assert_allclose(result.sequences["v_a"], result.curves["viewpoint"])
    assert result.without_matches == empty == 1
    assert result.matches == pytest.approx(np.mean(counts))
    assert result.keypoints == pytest.approx(np.mean(COUNTS["v_a"] + COUNTS["i_b"]))
    assert result.ratio == pytest.approx(result.matches / result.keypoints)
    curve = result.curves["overall"]
    weights = [1.9, 1.8, 1.7, 1.6, 1.5, 1.4, 1.3, 1.2, 1.1, 1.0]
    assert result.score("overall") == pytest.approx(sum(w * a for w, a in zip(weights, curve, strict=True)) / 14.5)


def test_groups_without_sequences_have_no_curve(measured, tmp_path):
    sequences, _, path = measured
    result = evaluate_mma(path, sequences[1:], {"name": "nearest"}, tmp_path / "r.jsonl", progress=False)
    assert set(result.curves) == {"overall", "viewpoint"}
    assert result.score("illumination") is None


SHIFT = np.array([[1.0, 0, 10], [0, 1, 0], [0, 0, 1]])
SIZE = (100, 50)


def test_mutual_pairs_within_three_pixels_count():
    """By hand: of four points in the common part of image 0 and three of image 1, two are found in both."""
    first = np.array([[10.0, 10], [30, 20], [50, 30], [70, 40], [95, 10]])  # the last leaves image 1
    second = np.array([[20.0, 12], [40, 20], [60, 33.5], [2, 2]])  # 2 px, exact, 3.5 px; the last is not in image 0
    assert repeatability(first, second, SHIFT, SIZE, SIZE) == pytest.approx(2 / 3)
    assert repeatability(first, second, SHIFT, SIZE, SIZE, threshold=4) == pytest.approx(1)
    assert repeatability(first, second, SHIFT, SIZE, SIZE, threshold=1) == pytest.approx(1 / 3)


def test_a_point_has_one_partner_only():
    crowd = np.array([[30.0, 20], [30.5, 20], [31, 20]])
    assert repeatability(crowd, np.array([[40.0, 20], [80, 40]]), SHIFT, SIZE, SIZE) == pytest.approx(1 / 2)


def test_nothing_in_common():
    assert repeatability(np.array([[95.0, 10]]), np.array([[50.0, 10]]), SHIFT, SIZE, SIZE) == 0
    assert repeatability(np.zeros((0, 2)), np.array([[50.0, 10]]), SHIFT, SIZE, SIZE) == 0


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 40))
def test_against_all_distances(seed, count0, count1):
    rng = np.random.default_rng(seed)
    first, second = (rng.uniform(0, 1, (n, 2)) * (99, 49) for n in (count0, count1))
    turn = np.array([[0.9, 0.1, 3], [-0.1, 0.9, 4], [1e-3, 0, 1]])
    moved = np.c_[first, np.ones(count0)] @ turn.T
    back = np.c_[second, np.ones(count1)] @ np.linalg.inv(turn).T
    there = [p[:2] / p[2] for p in moved]
    seen0 = np.array([p for p in there if 0 <= p[0] <= 99 and 0 <= p[1] <= 49]).reshape(-1, 2)
    homes = [p[:2] / p[2] for p in back]
    seen1 = np.array([q for q, h in zip(second, homes, strict=True) if 0 <= h[0] <= 99 and 0 <= h[1] <= 49])
    expected = 0.0
    if len(seen0) and len(seen1):
        d = np.linalg.norm(seen0[:, None] - seen1[None], axis=2)
        mutual = [(i, j) for i, j in enumerate(d.argmin(axis=1)) if d[:, j].argmin() == i]
        expected = sum(d[i, j] <= 3 for i, j in mutual) / min(d.shape)
    assert repeatability(first, second, turn, SIZE, SIZE) == pytest.approx(expected)


def test_homographies_are_estimated_in_spite_of_wrong_matches():
    rng = np.random.default_rng(0)
    truth = np.array([[1.1, 0.05, 7], [-0.02, 0.9, 3], [1e-4, -2e-4, 1]])
    points0 = rng.uniform(0, 300, (80, 2))
    points1 = project(points0, truth)
    points1[:30] = rng.uniform(0, 300, (30, 2))
    corners = np.array([[0.0, 0], [299, 0], [299, 199], [0, 199]])
    assert homography_error(points0, points1, corners, project(corners, truth)) < 1e-3
    shifted = project(corners, truth) + np.array([3.0, 4.0])
    assert homography_error(points0, points1, corners, shifted) == pytest.approx(5, abs=1e-3)
    assert homography_error(points0[:3], points1[:3], corners, shifted) == np.inf
    assert homography_error(np.ones((20, 2)), np.ones((20, 2)), corners, shifted) > 5
