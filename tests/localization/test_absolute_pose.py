"""What counts as a pose, against matches at random."""

from __future__ import annotations

import numpy as np
import pytest

from posfeat_hloc.geometry.acontrario import needed_pose_inliers
from posfeat_hloc.localization.absolute_pose import estimate_pose
from tests.localization.scenes import FOCAL, camera, look, pose_error

SIZE = (1000, 800)


def seen(pose, count, rng):
    points = rng.uniform([-3, -2, 5], [3, 2, 9], (count, 3))
    pixels = np.array([camera().img_from_cam(p) for p in points @ pose.rotation.matrix().T + pose.translation])
    return pixels, points


def test_matches_at_random_stay_below_what_is_needed():
    rng = np.random.default_rng(0)
    for count in (8, 60, 250):
        for _ in range(3):
            pixels, points = rng.uniform(0, SIZE, (count, 2)), rng.uniform([-3, -2, 5], [3, 2, 9], (count, 3))
            found = estimate_pose(pixels, points, camera())
            assert found is None or found.inliers.sum() < needed_pose_inliers(count, 12, SIZE)


def test_few_matches_give_no_pose():
    rng = np.random.default_rng(1)
    for count in range(4):
        assert estimate_pose(*seen(look(0), count, rng), camera()) is None
    assert estimate_pose(*seen(look(0), 4, rng), camera()) is not None


def test_the_seed_decides():
    rng = np.random.default_rng(2)
    pixels, points = seen(look(0.3, turn=0.1), 60, rng)
    pixels += rng.normal(0, 3, pixels.shape)
    first, again = (estimate_pose(pixels, points, camera(), seed=4) for _ in range(2))
    np.testing.assert_array_equal(first.cam_from_world.matrix(), again.cam_from_world.matrix())
    np.testing.assert_array_equal(first.inliers, again.inliers)


def test_inliers_are_the_matches_within_the_tolerance():
    rng = np.random.default_rng(3)
    pixels, points = seen(look(0.3, turn=0.1), 60, rng)
    pixels[:5, 0] += 30
    pixels[5:10, 0] += 8
    for limit, expected in ((12, 55), (5, 50)):
        found = estimate_pose(pixels, points, camera(), max_error=limit)
        assert found.inliers.sum() == expected
        assert not found.inliers[:5].any()


def crowded(rng, right=300, wrong=3):
    """Keypoints each with one true match and some false ones; the true ones are likely."""
    pose = look(0.3, turn=0.1)
    pixels, points = seen(pose, right, rng)
    pixels += rng.normal(0, 1, pixels.shape)
    others = rng.uniform([-3, -2, 5], [3, 2, 9], (right * wrong, 3))
    likely = np.arange(right * (1 + wrong)) < right
    return pose, np.concatenate([pixels, *[pixels] * wrong]), np.concatenate([points, others]), likely


def test_likely_matches_give_the_pose_that_all_matches_give():
    pose, pixels, points, likely = crowded(np.random.default_rng(5))
    slow = estimate_pose(pixels, points, camera())
    found = estimate_pose(pixels, points, camera(), likely=likely)
    assert (found.inliers == slow.inliers).mean() > 0.99
    assert found.inliers[likely].all()
    for estimate in (found, slow):
        distance, angle = pose_error(estimate.cam_from_world, pose)
        assert distance < 0.02
        assert angle < 0.1


def test_matches_that_are_not_likely_support_the_pose_too():
    """A pose from 40 likely matches is refined on 260 more, which makes it more exact."""
    rng = np.random.default_rng(6)
    pose, pixels, points, likely = crowded(rng)
    few = likely & (np.arange(len(likely)) < 40)
    found = estimate_pose(pixels, points, camera(), likely=few)
    assert found.inliers[likely].all()
    alone = estimate_pose(pixels[few], points[few], camera())
    assert pose_error(found.cam_from_world, pose)[0] < pose_error(alone.cam_from_world, pose)[0]


def test_likely_matches_that_are_wrong_do_not_prevent_the_pose():
    rng = np.random.default_rng(7)
    pose, pixels, points, likely = crowded(rng, wrong=1)
    found = estimate_pose(pixels, points, camera(), likely=~likely)
    assert pose_error(found.cam_from_world, pose)[0] < 0.02
    assert found.inliers[likely].all()


def test_too_few_likely_matches_leave_the_pose_to_all():
    pose, pixels, points, likely = crowded(np.random.default_rng(9), wrong=1)
    few = likely & (np.arange(len(likely)) < 2)
    found = estimate_pose(pixels, points, camera(), likely=few)
    assert pose_error(found.cam_from_world, pose)[0] < 0.02


def test_an_unknown_focal_length_comes_from_all_matches():
    rng = np.random.default_rng(8)
    _, pixels, points, likely = crowded(rng)
    guess = camera(FOCAL * 1.3)
    guess.has_prior_focal_length = False
    found = estimate_pose(pixels, points, guess, calibrated=False, likely=likely)
    assert found.camera.mean_focal_length() == pytest.approx(FOCAL, rel=0.01)
    assert guess.mean_focal_length() == pytest.approx(FOCAL * 1.3)  # the caller's camera is not touched


def test_an_absurd_focal_length_is_no_answer():
    """A camera that sees all points through one pixel would need a focal length near zero."""
    rng = np.random.default_rng(4)
    pixels, points = seen(look(0), 40, rng)
    guess = camera(1200)
    guess.has_prior_focal_length = False
    tiny = estimate_pose((pixels - [500, 400]) / 20 + [500, 400], points, guess, calibrated=False)
    assert tiny is None or tiny.camera.mean_focal_length() > 100
    fair = estimate_pose(pixels, points, guess, calibrated=False)
    assert abs(fair.camera.mean_focal_length() - FOCAL) < 0.1
    assert pose_error(fair.cam_from_world, look(0))[0] < 1e-3
