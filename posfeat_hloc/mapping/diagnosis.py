"""Why images stay out of a model: the likely cause, as the database and the models tell it, and what to try next.

Causes are looked for in the order in which they rule each other out, and the first one that an image shows is named: an
image without keypoints has no pairs, one without pairs is disconnected. All of them are judged from numbers, which the
reason quotes; that they are the cause is likely, not proven.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pycolmap

from posfeat_hloc.mapping.advice import advise
from posfeat_hloc.mapping.chance import keeps_lines_straight
from posfeat_hloc.mapping.match_graph import MatchGraph
from posfeat_hloc.mapping.reconstruction import read_model
from posfeat_hloc.mapping.symptoms import chain_disagreement, focal_factor, rotation_deviation

FEW_KEYPOINTS = 100
"""Verification wants 15 matches that agree and a pose 30; of 100 keypoints rarely that many are seen elsewhere."""
NO_PARALLAX = 0.026
"""Translation as a part of the distance below which rays meet at less than 1.5 degrees; COLMAP drops such points."""
REPEATED = 0.25
"""Part of the match chains that disagree. Measured with learned features: 0.01 to 0.03 on a fountain, 0.04 to 0.10 in a
street, 0.01 to 0.23 in 74 internet photographs of one building; with SIFT 0.00."""
OFF_FOCAL = 1.4
"""Factor between two focal lengths that counts as wrong; less is found by COLMAP's bundle adjustment."""
SURE_FOCAL = 0.05
"""Relative difference of an essential matrix's singular values that is noise; ten times less on exact matches."""
POSE_INLIERS = 30
"""Matches with 3D points that COLMAP wants for a pose (``abs_pose_min_num_inliers``)."""
FOCAL_SPREAD = 0.05
"""Focal lengths of one camera that were estimated image by image differ by less, as a part of their median. Measured:
0.004 on a door, 0.01 on a fountain; 0.06 on a flat facade, 0.7 and more where some of them are wrong."""
START_INLIERS = 100
"""Verified matches that COLMAP wants between the first two images (``init_min_num_inliers``)."""

_STRONGEST = 10  # pairs of an image that are looked at
_SAME_PLACE = 0.02  # of the longer side
_FLAT = {
    pycolmap.TwoViewGeometryConfiguration.PLANAR_OR_PANORAMIC,
    pycolmap.TwoViewGeometryConfiguration.PANORAMIC,
}


@dataclass(frozen=True)
class Reason:
    """Why one image is not in the largest model.

    Attributes:
        cause: one of :data:`posfeat_hloc.mapping.advice.CAUSES`.
        evidence: the numbers that speak for it.
    """

    cause: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.cause}: {self.evidence}"


@dataclass(frozen=True)
class Cause:
    """One cause and all images that it keeps out.

    Attributes:
        name: one of :data:`posfeat_hloc.mapping.advice.CAUSES`.
        images: their names.
        advice: options of ``pipelines.sfm`` to try next, and what else helps.
    """

    name: str
    images: tuple[str, ...]
    advice: str


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with a model: why images are not in it, and cameras that were not determined.

    Attributes:
        reasons: image that is not in the largest model -> why.
        causes: the same by cause, the most frequent first.
        focal_lengths: shortest and longest in pixels of the largest model, where they are too far apart for one camera
            and nothing but the images' size tells whether it was one; None elsewhere.
    """

    reasons: dict[str, Reason] = field(default_factory=dict)
    causes: list[Cause] = field(default_factory=list)
    focal_lengths: tuple[float, float] | None = None

    @property
    def about_focal_lengths(self) -> str | None:
        """What is to be said of them, and what to try."""
        if self.focal_lengths is None:
            return None
        shortest, longest = self.focal_lengths
        return (
            f"{shortest:.0f} to {longest:.0f} px, estimated image by image; if one camera with one zoom took all of "
            "them, --camera single is more exact"
        )


def diagnose(database: Path, models: Sequence[Path], command: Mapping[str, Any] | None = None) -> Diagnosis:
    """Look for the reasons of all images with features that are not in the largest model.

    Args:
        database: COLMAP database, verified.
        models: folders of the models, largest first.
        command: options of ``pipelines.sfm`` in use, so that nothing is advised that was tried.

    Raises:
        MappingError: the database or a model cannot be read.
    """
    with MatchGraph(database) as graph:
        doctor = _Doctor(graph, [read_model(path) for path in models])
        reasons = {name: doctor.reason(name) for name in graph.names if name not in doctor.registered}
        apart = doctor.focal_lengths_apart()
    return Diagnosis(reasons, _grouped(reasons, command or {}), apart)


def _grouped(reasons: Mapping[str, Reason], command: Mapping[str, Any]) -> list[Cause]:
    images: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        images.setdefault(reason.cause, []).append(name)
    ranked = sorted(images.items(), key=lambda item: -len(item[1]))
    return [Cause(cause, tuple(names), advise(cause, command)) for cause, names in ranked]


class _Doctor:
    """Judges one image after the other.

    Attributes:
        registered: name -> image of the largest model.
    """

    def __init__(self, graph: MatchGraph, models: Sequence[pycolmap.Reconstruction]) -> None:
        self.graph = graph
        self.registered = _posed(models[0]) if models else {}
        self.other = {name: number for number, model in enumerate(models[1:], 1) for name in _posed(model)}
        components = graph.components()
        self.component = {name: number for number, part in enumerate(components) for name in part}
        self.sizes = [len(part) for part in components]
        inside = [self.component[name] for name in self.registered if name in self.component]
        self.main = max(set(inside), key=inside.count) if inside else 0

    def reason(self, name: str) -> Reason:
        """The first cause that an image shows."""
        looks = (
            self._keypoints, self._pairs, self._connection, self._rotation, self._focal, self._repetition,
            self._focal_spread, self._support,
        )  # fmt: skip
        found = next(reason for look in looks if (reason := look(name)) is not None)
        if name in self.other:
            return Reason(found.cause, f"in model {self.other[name]}, apart from the largest; {found.evidence}")
        return found

    def focal_lengths_apart(self) -> tuple[float, float] | None:
        """See :class:`Diagnosis`; of at least three images of one size without EXIF, each with its own camera."""
        cameras = {image.camera_id: image.camera for image in self.registered.values()}
        shared = len(cameras) < len(self.registered)
        told = any(self.graph.cameras[name].has_prior_focal_length for name in self.registered)
        if shared or told or len(cameras) < 3 or len({(c.width, c.height) for c in cameras.values()}) > 1:
            return None
        lengths = [camera.mean_focal_length() for camera in cameras.values()]
        apart = max(lengths) - min(lengths) > FOCAL_SPREAD * median(lengths)
        return (min(lengths), max(lengths)) if apart else None

    def _keypoints(self, name: str) -> Reason | None:
        count = self.graph.keypoints[name]
        middle = median(self.graph.keypoints.values())
        if count < FEW_KEYPOINTS or count < middle / 20:
            return Reason("too few keypoints", f"{count}, where the median image has {middle:g}")
        return None

    def _pairs(self, name: str) -> Reason | None:
        if self.graph.neighbors(name):
            return None
        others = [pair for pair in self.graph.pairs if name in pair]
        if not others:
            return Reason("no verified pair", "no other image was matched with it, or none gave 15 matches")
        best = max(self.graph.pairs[pair].matches for pair in others)
        missing = len(self.graph.names) - 1 - len(others)
        untried = f"; {missing} images were not tried or gave fewer than 15" if missing else ""
        return Reason("no verified pair", f"at most {best} matches with any of {len(others)} images{untried}")

    def _connection(self, name: str) -> Reason | None:
        own = self.component[name]
        if own == self.main:
            return None
        to = "the largest model" if self.registered else f"the largest group of {self.sizes[self.main]}"
        group = "1 other image" if self.sizes[own] == 2 else f"{self.sizes[own] - 1} others"
        return Reason("disconnected component", f"verified pairs join it with {group}, but not with {to}")

    def _strongest(self, name: str) -> list[str]:
        return self.graph.neighbors(name)[:_STRONGEST]

    def _rotation(self, name: str) -> Reason | None:
        camera, deviations = self.graph.cameras[name], []
        strongest = self._strongest(name)
        for other in strongest:
            geometry = self.graph.geometry(name, other)
            if geometry.config in _FLAT and geometry.H is not None:
                deviations.append(rotation_deviation(geometry.H, camera, self.graph.cameras[other]))
        still = [value for value in deviations if value < NO_PARALLAX]
        if len(still) < 0.75 * len(strongest):
            return None
        return Reason(
            "pure rotation",
            f"{len(still)} of its {len(strongest)} strongest pairs are explained by turning the camera on the spot "
            f"(translation at most {100 * max(still):.1f} % of the distance)",
        )

    def _focal(self, name: str) -> Reason | None:
        """A focal length that its pairs contradict, while they agree on another one."""
        camera, pairs = self.graph.cameras[name], []
        for other in self._strongest(name):
            if not (keeps_lines_straight(camera) and keeps_lines_straight(self.graph.cameras[other])):
                continue
            geometry = self.graph.geometry(name, other)
            if geometry.config not in _FLAT and geometry.F is not None:
                pairs.append((other, geometry.F))
        trusted = [(other, matrix) for other, matrix in pairs if other in self.registered]
        use = trusted or pairs
        if len(use) < 2:
            return None
        cameras = [self.registered[other].camera if trusted else self.graph.cameras[other] for other, _ in use]
        factor, cost, cost_now = focal_factor([matrix for _, matrix in use], camera, cameras, known1=bool(trusted))
        if 1 / OFF_FOCAL < factor < OFF_FOCAL or cost > SURE_FOCAL or cost_now < max(SURE_FOCAL, 3 * cost):
            return None
        focal = camera.mean_focal_length()
        origin = "by EXIF or option" if camera.has_prior_focal_length else "guessed without EXIF"
        return Reason(
            "wrong focal length", f"{focal:.0f} px, {origin}, but its {len(use)} best pairs fit {focal * factor:.0f} px"
        )

    def _repetition(self, name: str) -> Reason | None:
        total = wrong = 0
        for via, end in combinations(self._strongest(name), 2):
            if not self.graph.counts(via, end).inliers:
                continue
            camera = self.graph.cameras[end]
            chains, disagree = chain_disagreement(
                self.graph.inliers(name, via), self.graph.inliers(via, end), self.graph.inliers(name, end),
                self.graph.positions(end), _SAME_PLACE * max(camera.width, camera.height),
            )  # fmt: skip
            total, wrong = total + chains, wrong + disagree
        if total < FEW_KEYPOINTS or wrong < REPEATED * total:
            return None
        share = f"{100 * wrong / total:.0f} % of {total} match chains through three images do not close"
        return Reason("repeated structure", f"{share}: the same-looking thing stands in several places")

    def _focal_spread(self, name: str) -> Reason | None:
        """Without EXIF, bundle adjustment of weak images may run away with the focal length, which it had to guess."""
        camera = self.graph.cameras[name]
        if camera.has_prior_focal_length:
            return None
        size = (camera.width, camera.height)
        refined = sorted(
            image.camera.mean_focal_length() / max(size)
            for other, image in self.registered.items()
            if not self.graph.cameras[other].has_prior_focal_length
            and (image.camera.width, image.camera.height) == size
        )
        if len(refined) < 3 or refined[-1] < OFF_FOCAL**2 * refined[0]:
            return None
        return Reason(
            "wrong focal length",
            f"none in EXIF, and those found for {len(refined)} images of the same size range from {refined[0]:.2f} to "
            f"{refined[-1]:.2f} times the longer side",
        )

    def _support(self, name: str) -> Reason:
        pairs = len(self.graph.neighbors(name))
        plural = "pair" if pairs == 1 else "pairs"
        if not self.registered:
            best = self.graph.counts(name, self.graph.neighbors(name)[0])
            evidence = f"{pairs} verified {plural}, the best with {best.inliers} of {best.matches} matches"
            if best.inliers < START_INLIERS:
                return Reason("too few matches", f"{evidence}; no two images could start a model")
            if len(self.graph.names) > 2 and not self.graph.cameras[name].has_prior_focal_length:
                return Reason("wrong focal length", f"none in EXIF, so that it is a guess; {evidence}, yet no model")
            return Reason("unclear", f"{evidence}, yet no two images could start a model")
        seen = len(self._with_points(name))
        if seen < POSE_INLIERS:
            return Reason(
                "too few matches", f"{pairs} verified {plural}, but only {seen} keypoints matched with 3D points"
            )
        return Reason(
            "unclear", f"{pairs} verified {plural} and {seen} keypoints matched with 3D points, which agree on no pose"
        )

    def _with_points(self, name: str) -> set[int]:
        """Keypoints of an image that verified matches join with 3D points of the largest model."""
        found: set[int] = set()
        for other in self.graph.neighbors(name):
            if other in self.registered:
                has_point = np.array([p.has_point3D() for p in self.registered[other].points2D], bool)
                matches = self.graph.inliers(name, other)
                found.update(matches[has_point[matches[:, 1]], 0].tolist())
        return found


def _posed(model: pycolmap.Reconstruction) -> dict[str, pycolmap.Image]:
    images: Iterable[pycolmap.Image] = model.images.values()
    return {image.name: image for image in images if image.has_pose}
