"""Causes of images missing in a model, each decided by a measurement.

They are looked for in the order in which they rule each other out, and the first one that an image shows is named: an
image without keypoints has no pairs, one without pairs is disconnected. The reason quotes the numbers; that they are
the cause is likely, not proven.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import median
from typing import Any

import numpy as np
import pycolmap

from posfeat_hloc.confs import RESIZE_MAX
from posfeat_hloc.errors import Option
from posfeat_hloc.sfm.acontrario import keeps_lines_straight
from posfeat_hloc.sfm.diagnosis.measurements import (
    ENOUGH_VIEWS,
    FEW_KEYPOINTS,
    FLAT,
    FOCAL_SPREAD,
    MASKED,
    MAX_KEYPOINTS,
    NO_PARALLAX,
    OFF_FOCAL,
    OFF_SCALE,
    ONE_SIDE,
    POSE_INLIERS,
    REPEATED,
    SMALLEST,
    START_INLIERS,
    STILL,
    SURE_FOCAL,
    Pictures,
    Reason,
    chain_disagreement,
    focal_factor,
    rotation_deviation,
)
from posfeat_hloc.sfm.match_graph import MatchGraph
from posfeat_hloc.sfm.models import posed_images

_STRONGEST = 10  # pairs of an image that are looked at
_SAME_PLACE = 0.02  # of the longer side
_FLAT = {
    pycolmap.TwoViewGeometryConfiguration.PLANAR_OR_PANORAMIC,
    pycolmap.TwoViewGeometryConfiguration.PANORAMIC,
}


class Doctor:
    """Judges one image after the other.

    Args:
        graph: of the database.
        models: the largest first.
        command: recorded options of the reconstruction, by which a measurement becomes a remedy.
        pictures: where images and masks are.

    Attributes:
        registered: name -> image of the largest model.
    """

    def __init__(
        self,
        graph: MatchGraph,
        models: Sequence[pycolmap.Reconstruction],
        command: Mapping[str, Any],
        pictures: Pictures,
    ) -> None:
        self.graph, self.command, self.pictures = graph, command, pictures
        self.max_size = int(command.get("max_size") or RESIZE_MAX)
        self.registered = posed_images(models[0]) if models else {}
        self.other = {name: number for number, model in enumerate(models[1:], 1) for name in posed_images(model)}
        components = graph.components()
        self.component = {name: number for number, part in enumerate(components) for name in part}
        self.sizes = [len(part) for part in components]
        inside = [self.component[name] for name in self.registered if name in self.component]
        self.main = max(set(inside), key=inside.count) if inside else 0

    def reason(self, name: str) -> Reason:
        """The first cause that an image shows."""
        looks = (
            self._keypoints, self._scale, self._pairs, self._connection, self._same_picture, self._rotation,
            self._focal, self._repetition, self._focal_spread, self._support,
        )  # fmt: skip
        found = next(reason for look in looks if (reason := look(name)) is not None)
        if name in self.other:
            evidence = f"in model {self.other[name]}, apart from the largest; {found.evidence}"
            return Reason(found.cause, evidence, found.remedies)
        return found

    def focal_lengths_apart(self) -> tuple[float, float] | None:
        """Of at least three images of one size without EXIF, each with its own camera; None where they agree."""
        cameras = {image.camera_id: image.camera for image in self.registered.values()}
        shared = len(cameras) < len(self.registered)
        told = any(self.graph.cameras[name].has_prior_focal_length for name in self.registered)
        if shared or told or len(cameras) < 3 or len({(c.width, c.height) for c in cameras.values()}) > 1:
            return None
        lengths = [camera.mean_focal_length() for camera in cameras.values()]
        apart = max(lengths) - min(lengths) > FOCAL_SPREAD * median(lengths)
        return (min(lengths), max(lengths)) if apart else None

    def one_side(self) -> float | None:
        """See :class:`posfeat_hloc.sfm.diagnosis.diagnose.Diagnosis`; of at least six images."""
        names = list(self.registered)
        straight = all(keeps_lines_straight(self.graph.cameras[name]) for name in names)  # panoramas look everywhere
        related = all(self.graph.counts(*pair).inliers for pair in combinations(names, 2))
        if len(names) < ENOUGH_VIEWS or not straight or not related:
            return None
        views = np.array([self.registered[name].viewing_direction() for name in names])
        widest = float(np.degrees(np.arccos(np.clip(views @ views.T, -1, 1).min())))
        return widest if widest < ONE_SIDE else None

    def _keypoints(self, name: str) -> Reason | None:
        count, middle = self.graph.keypoints[name], median(self.graph.keypoints.values())
        if count >= FEW_KEYPOINTS and count >= middle / 20:
            return None
        if (mask := self.pictures.mask_share(name)) is not None and mask[1] < MASKED:
            return Reason("mask", f"{mask[0]} leaves {100 * mask[1]:.2g} % of the image; {count} keypoints")
        if (contrast := self.pictures.contrast(name)) is not None and contrast < FLAT:
            return Reason("blank image", f"grey values differ by {contrast:.1f} of 255; {count} keypoints")
        return Reason("too few keypoints", f"{count}, where the median image has {middle:g}", self._larger(name))

    def _larger(self, name: str) -> tuple[Option, ...]:
        """More pixels, where the file has more than were used; more keypoints, where the limit was reached."""
        longest = max(self.graph.cameras[name].width, self.graph.cameras[name].height)
        limit = int(self.command.get("max_keypoints") or MAX_KEYPOINTS)
        found = []
        if longest > 1.2 * self.max_size:
            found.append(Option("max_size", str(min(max(2 * self.max_size, RESIZE_MAX), longest))))
        if self.graph.keypoints[name] > 0.9 * limit:
            found.append(Option("max_keypoints", str(2 * limit)))
        return tuple(found)

    def _scale(self, name: str) -> Reason | None:
        """Learned features match at one scale, and with twice the pixels an image shows all twice as large."""
        if str(self.command.get("feature", "")).startswith("sift"):
            return None
        if self.component[name] == self.main and len(self._with_points(name)) >= POSE_INLIERS:
            return None
        others = [self._used_size(other) for other in (self.registered or self.graph.names) if other != name]
        own, rest = self._used_size(name), round(median(others)) if others else 0
        smaller, larger = sorted((own, rest))
        if smaller < SMALLEST or larger < OFF_SCALE * smaller:
            return None
        evidence = f"its longer side has {own} px for the features, that of most others {rest} px"
        return Reason("different scale", evidence, (Option("max_size", str(smaller)),))

    def _used_size(self, name: str) -> int:
        return min(self.max_size, max(self.graph.cameras[name].width, self.graph.cameras[name].height))

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

    def _same_picture(self, name: str) -> Reason | None:
        """Matches at the very same pixels: copies, or a camera that did not move."""
        moved = {}
        for other in self._strongest(name):
            matches = self.graph.inliers(name, other)
            steps = self.graph.positions(name)[matches[:, 0]] - self.graph.positions(other)[matches[:, 1]]
            moved[other] = float(np.median(np.linalg.norm(steps, axis=1)))
        still = [other for other, step in moved.items() if step < STILL]
        if len(still) < 0.75 * len(moved) and not any(other in self.registered for other in still):
            return None
        evidence = f"its matches with {still[0]} lie at the same pixels (median {moved[still[0]]:.2f} px apart)"
        return Reason("same image", f"{evidence}; so with {len(still)} of its {len(moved)} strongest pairs")

    def _rotation(self, name: str) -> Reason | None:
        camera, deviations = self.graph.cameras[name], []
        strongest = self._strongest(name)
        for other in strongest:
            geometry = self.graph.geometry(name, other)
            if geometry.config in _FLAT and geometry.H is not None:
                deviations.append(rotation_deviation(geometry.H, camera, self.graph.cameras[other]))
        if len(still := [value for value in deviations if value < NO_PARALLAX]) < 0.75 * len(strongest):
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
        evidence = f"{focal:.0f} px, {origin}, but its {len(use)} best pairs fit {focal * factor:.0f} px"
        return Reason("wrong focal length", evidence, self._known_camera(name, focal * factor))

    def _known_camera(self, name: str, focal: float) -> tuple[Option, ...]:
        """The intrinsics that were measured, for a camera that took all images."""
        camera = self.graph.cameras[name]
        if len({(other.width, other.height) for other in self.graph.cameras.values()}) > 1:
            return ()
        filled = pycolmap.Camera.create_from_model_name(1, camera.model_name, focal, camera.width, camera.height)
        params = ",".join(f"{value:.6g}" for value in filled.params)
        return (Option("camera_params", params, "if one camera with one zoom setting took them all"),)

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
        return Reason("repeated structure", f"{share}: similar structures in several places")

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
                return Reason("too few matches", f"{evidence}; no two images could start a model", self._larger(name))
            if len(self.graph.names) > 2 and not self.graph.cameras[name].has_prior_focal_length:
                return Reason("wrong focal length", f"none in EXIF, so that it is a guess; {evidence}, yet no model")
            return Reason("unclear", f"{evidence}, yet no two images could start a model")
        if (seen := len(self._with_points(name))) < POSE_INLIERS:
            evidence = f"{pairs} verified {plural}, but only {seen} keypoints matched with 3D points"
            return Reason("too few matches", evidence, self._larger(name))
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
