"""Numbers that the papers and their protocols fix, where nothing else is said."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import pytest

from posfeat_hloc import confs
from posfeat_hloc.aachen.options import AachenOptions
from posfeat_hloc.aachen.protocols import COVISIBLE
from posfeat_hloc.detection.d2d import relative_saliency, score_map
from posfeat_hloc.detection.peaks import FEWEST
from posfeat_hloc.extractors import d2d, d2net, posfeat, superpoint
from posfeat_hloc.localization.absolute_pose import estimate_pose
from posfeat_hloc.localization.options import PoseOptions
from posfeat_hloc.networks.normalization import CLAMP, normalize_locally, normalize_patches
from posfeat_hloc.sfm.database import MIN_MATCHES, verify
from posfeat_hloc.sfm.pairs import pose_pairs
from posfeat_hloc.sfm.triangulation import TriangulationOptions
from posfeat_hloc.training.correspondence import description_loss, epipolar_loss
from posfeat_hloc.training.correspondence_search import CoarseToFineOptions, LineToWindowOptions, query_points
from posfeat_hloc.training.detection_loss import DetectionOptions, select_keypoints
from posfeat_hloc.training.losses import hardest_in_batch_loss, second_order_similarity
from posfeat_hloc.training.megadepth import CHALLENGE_SCENES, MegaDepthOptions
from posfeat_hloc.training.options import PatchTrainingOptions
from posfeat_hloc.training.posed_pairs import MAX_ROTATION, SIZE
from posfeat_hloc.training.posfeat import TrainOptions
from posfeat_hloc.training.stages import LossOptions

OPTIONS: list[tuple[type, dict[str, Any]]] = [
    (d2d.Options, {"radius": 5, "step": 2, "terms": "both", "positions": "grid", "scales": (1.0,)}),
    (
        posfeat.Options,
        {"max_keypoints": 8192, "radius": 1, "threshold": 0.9, "reproduce_official": True, "subpixel": "mean"},
    ),
    (superpoint.Options, {"threshold": 0.015, "nms_radius": 4, "border": 4, "radius": 5, "step": 2}),
    (d2net.Options, {"scales": (1.0,), "radius": 5, "step": 2, "d2d": False}),
    (TrainOptions, {"steps": 100_000, "batch": 6, "optimizer": "sgd", "momentum": 0.9, "learning_rate": 1e-3}),
    (TrainOptions, {"decay_after": 0.9, "color": 1.0, "relight": 0.0, "accumulate": 1, "backbone": "resnet50"}),
    (LossOptions, {"search": "line-to-window", "max_distance": 0.1}),
    (LineToWindowOptions, {"line_points": 100, "window": 0.1, "inverse_temperature": 60.0, "min_variance": 1e-10}),
    (
        CoarseToFineOptions,
        {"window": 0.125, "inverse_temperature": 60.0, "min_variance": 1e-10, "sigma": "official-code"},
    ),
    (DetectionOptions, {"threshold": 2.0, "right": 1.0, "wrong": -0.25, "regularizer": -0.001}),
    (TriangulationOptions, {"verification": "poses", "max_error": 4.0, "two_view_tracks": False}),
    (MegaDepthOptions, {"max_pairs": 5000, "max_rotation": 80.0, "size": (640, 480)}),
    (PoseOptions, {"max_error": 12.0, "min_inliers": 12, "covisibility_clustering": False}),
    (AachenOptions, {"neighbors": 50, "repeat": 1, "seed": 0}),
]
ARGUMENTS: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (relative_saliency, {"radius": 5, "step": 2}),
    (score_map, {"radius": 5, "step": 2, "terms": "both"}),
    (second_order_similarity, {"k": 8}),
    (hardest_in_batch_loss, {"margin": 1.0}),
    (select_keypoints, {"cell": 8}),
    (query_points, {"cell": 16}),
    (epipolar_loss, {"max_distance": 0.1}),
    (description_loss, {"max_distance": 0.1}),
    (normalize_patches, {"eps": 1e-7}),
    (normalize_locally, {"window": 33, "eps": 1e-7}),
    (estimate_pose, {"max_error": 12.0, "seed": 0}),
    (verify, {"max_error": 4.0}),
    (pose_pairs, {"max_angle": 30}),
]


@pytest.mark.parametrize(("options", "expected"), OPTIONS)
def test_options(options: type, expected: dict[str, Any]) -> None:
    defaults = {f.name: f.default_factory() if f.default is MISSING and f.default_factory is not MISSING else f.default
                for f in fields(options)}  # fmt: skip
    assert {name: defaults[name] for name in expected} == expected


@pytest.mark.parametrize(("function", "expected"), ARGUMENTS)
def test_arguments(function: Callable[..., Any], expected: dict[str, Any]) -> None:
    parameters = inspect.signature(function).parameters
    assert {name: parameters[name].default for name in expected} == expected


def test_constants() -> None:
    assert (FEWEST, CLAMP, MAX_ROTATION, SIZE, MIN_MATCHES, COVISIBLE) == (128, 6.0, 80.0, (640, 480), 15, 20)
    assert CHALLENGE_SCENES == ("0008", "0021", "0024", "0063", "1589")


def test_posfeats_confs() -> None:
    settings = {
        "posfeat-hpatches": (8192, 1, 0.9),
        "posfeat-aachen": (20480, 3, 0.5),
        "posfeat-eth": (20480, 3, 0.9),
    }
    for name, expected in settings.items():
        options = posfeat.Options(**{k: v for k, v in confs.extractors[name]["model"].items() if k != "name"})
        assert (options.max_keypoints, options.radius, options.threshold) == expected, name
        assert options.reproduce_official, name
        assert options.subpixel == "mean", name


def test_matchers_of_the_papers() -> None:
    assert confs.matchers["NN-ratio.75"]["model"] == {"name": "nearest", "ratio": 0.75, "ratio_sides": "both"}
    assert confs.matchers["NN-ratio"]["model"]["ratio"] == 0.8
    assert confs.default_matchers["posfeat-eth"] == "NN-ratio.75"
    assert confs.default_matchers["posfeat-aachen"] == confs.default_matchers["d2d-hardnet"] == "NN-mutual"


def test_sosnets_weight_of_the_second_order_term() -> None:
    defaults = {f.name: f.default for f in fields(PatchTrainingOptions)}
    assert defaults["second_order"] == 1.0
