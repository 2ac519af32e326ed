import numpy as np
import pytest

from posfeat_hloc.aachen.report import Report, Trial
from posfeat_hloc.evaluation.poses import PoseErrors
from posfeat_hloc.sfm.models import ModelSummary

THRESHOLDS = ((0.25, 2.0), (5.0, 10.0))


def trial(seed, positions):
    made = Trial(seed, ModelSummary("sfm", 3, 10, 30, 3.0, 3.0, 0.5), "results.txt", len(positions))
    errors = PoseErrors(list("abc"), np.full(3, 1.0), np.array(positions))
    made.judge("day", errors, THRESHOLDS)
    return made


def report(*trials):
    class Dataset:
        version, protocol, query_names = "v1", "hloc", list("abc")

    return Report(Dataset(), "sift", trials=list(trials), thresholds=THRESHOLDS)


def test_recall_and_median_are_means_over_the_seeds():
    made = report(trial(0, [0.1, 0.2, 9.0]), trial(1, [0.1, 0.3, 0.5]))
    mean, deviation = made.spread()["day"][0]
    assert mean == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert deviation == pytest.approx(np.std([2 / 3, 1 / 3], ddof=1))
    assert "median error        0.25, 1° (day)" in made.as_text()


def test_a_median_that_no_pose_has_is_not_stated():
    lost = trial(0, [0.1, np.inf, np.inf])
    assert lost.median["day"] is None
    assert "median" not in report(lost).as_text()
