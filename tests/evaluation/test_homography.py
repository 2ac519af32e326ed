import numpy as np
import pytest

from posfeat_hloc.evaluation.homography import match_errors, matching_accuracy, mma_score


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
