"""What helps against the causes of a failed reconstruction: options of a reconstruction, and what no option can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from posfeat_hloc import confs
from posfeat_hloc.errors import Option
from posfeat_hloc.sfm.diagnosis.causes import Doctor
from posfeat_hloc.sfm.diagnosis.measurements import Pictures, Reason
from posfeat_hloc.sfm.match_graph import MatchGraph
from posfeat_hloc.sfm.models import read_model


@dataclass(frozen=True)
class Remedies:
    """What to try against a cause.

    Attributes:
        options: the most promising first.
        besides: what no option can do.
    """

    options: tuple[Option, ...] = ()
    besides: str = ""

    def __str__(self) -> str:
        return "; ".join(part for part in (" or ".join(map(str, self.options)), self.besides) if part)


def in_use(option: Option, command: Mapping[str, Any]) -> bool:
    """Whether recorded options have this one with this value."""
    return str(command.get(option.name)) == option.value


_STRONG = (Option("feature", confs.DEFAULT_FEATURE), Option("feature", "d2d-hardnet-subpixel"))
_ALL = Option("pairs", "exhaustive")
_SHOWN = 2

_STANDARD = {
    "mask": Remedies((), "masks are white where keypoints may lie and black elsewhere: correct this one, or remove it"),
    "blank image": Remedies((), "leave it out, or take it again: it shows next to nothing"),
    "too few keypoints": Remedies(_STRONG, "leave out blurred or dark photographs, or take them again"),
    "different scale": Remedies((), "photographs of one size, or from distances in between, match best"),
    "no verified pair": Remedies(
        (_ALL, *_STRONG), "take photographs between this view and the others: neighbours should share half"
    ),
    "disconnected component": Remedies((_ALL, *_STRONG), "take photographs that overlap with both parts"),
    "same image": Remedies((), "leave out copies; photographs from one spot give no depth, so move between them"),
    "pure rotation": Remedies((_ALL,), "take photographs from other places: turning on the spot gives no depth"),
    "wrong focal length": Remedies((Option("camera", "single", "if one camera with one zoom setting took them all"),)),
    "repeated structure": Remedies(
        (Option("pairs", "sequential", "if the names are in the order of exposure"), Option("matcher", "NN-ratio")),
        "photographs of the surroundings distinguish copies; {pairs} names the pairs that really overlap",
    ),
    "too few matches": Remedies(_STRONG, "take photographs between this view and the others"),
    "unclear": Remedies((Option("mapper", "global"), *_STRONG), "look at its pairs in the report"),
}  # fmt: skip

CAUSES = tuple(_STANDARD)
"""Why an image may stay out of a model."""


def remedies_for(
    cause: str, command: Mapping[str, Any], measured: Sequence[Option] = (), one_size: bool = True
) -> Remedies:
    """What to try next against a cause.

    Args:
        cause: one of :data:`CAUSES`.
        command: options in use, by their names; these are not advised again.
        measured: what follows from the measurement that named the cause; comes first.
        one_size: whether all images have one, so that one camera can have taken them.
    """
    standard = _STANDARD[cause]
    single = one_size and command.get("camera_params") is None
    wanted = [remedy for remedy in (*measured, *standard.options) if single or remedy.name != "camera"]
    left = [remedy for remedy in dict.fromkeys(wanted) if not in_use(remedy, command)]
    besides = standard.besides
    if cause == "wrong focal length" and not any(remedy.name == "camera_params" for remedy in left):
        besides = f"give the intrinsics by {Option('camera_params')} where they are known"
    return Remedies(tuple(left[:_SHOWN]), besides.replace("{pairs}", str(Option("pairs", "FILE"))))


_AGREEING = 0.1
"""Focal lengths that the images of one size are found to have count as one where they differ by less, as a part."""


@dataclass(frozen=True)
class Cause:
    """One cause and all images that it keeps out.

    Attributes:
        name: one of :data:`posfeat_hloc.sfm.diagnosis.diagnose.CAUSES`.
        images: their names.
        remedies: options to try next, and what else helps, as a sentence.
        options: (option, value) of the remedies, the most promising first.
    """

    name: str
    images: tuple[str, ...]
    remedies: str
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """Problems of a model: why images are not in it, and cameras that are poorly determined.

    Attributes:
        reasons: image that is not in the largest model -> why.
        causes: the same by cause, the most frequent first.
        focal_lengths: shortest and longest in pixels of the largest model, where they are too far apart for one camera
            and nothing but the images' size tells whether it was one; None elsewhere.
        one_side: largest angle in degrees between the views of the largest model, where all of its pairs are verified
            and all look from one side: so it is with one facade, and with two equal ones that were taken for one; None
            elsewhere.
    """

    reasons: dict[str, Reason] = field(default_factory=dict)
    causes: list[Cause] = field(default_factory=list)
    focal_lengths: tuple[float, float] | None = None
    one_side: float | None = None

    @property
    def about_one_side(self) -> str | None:
        """The warning about it, and what to try."""
        if self.one_side is None:
            return None
        return (
            f"all cameras look from within {self.one_side:.0f} degrees, and every pair was verified; if you walked "
            "around the subject, two sides that look alike were taken for one: name the pairs that really overlap by "
            f"{Option('pairs', 'FILE')}, or try {Option('pairs', 'sequential')}"
        )

    @property
    def about_focal_lengths(self) -> str | None:
        """The warning about them, and what to try."""
        if self.focal_lengths is None:
            return None
        shortest, longest = self.focal_lengths
        return (
            f"{shortest:.0f} to {longest:.0f} px, estimated image by image; if one camera with one zoom setting took "
            f"all of them, {Option('camera', 'single')} is more exact"
        )


def diagnose(database: Path, models: Sequence[Path], command: Mapping[str, Any] | None = None) -> Diagnosis:
    """Look for the reasons of all images with features that are not in the largest model.

    Args:
        database: COLMAP database, verified.
        models: folders of the models, largest first.
        command: recorded options of the reconstruction, so that nothing is advised that was tried.

    Raises:
        MappingError: the database or a model cannot be read.
    """
    command = command or {}
    with MatchGraph(database) as graph:
        doctor = Doctor(graph, [read_model(path) for path in models], command, Pictures.of(command))
        reasons = {name: doctor.reason(name) for name in graph.names if name not in doctor.registered}
        apart = doctor.focal_lengths_apart()
        one_side = doctor.one_side()
        one_size = len({(camera.width, camera.height) for camera in graph.cameras.values()}) == 1
    return Diagnosis(reasons, _grouped(reasons, command, one_size), apart, one_side)


def _grouped(reasons: Mapping[str, Reason], command: Mapping[str, Any], one_size: bool) -> list[Cause]:
    images: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        images.setdefault(reason.cause, []).append(name)
    ranked = sorted(images.items(), key=lambda item: -len(item[1]))
    causes = []
    for cause, names in ranked:
        found = remedies_for(cause, command, _joint([reasons[name].remedies for name in names]), one_size)
        options = tuple((remedy.name, remedy.value) for remedy in found.options)
        causes.append(Cause(cause, tuple(names), str(found), options))
    return causes


def _joint(found: Sequence[tuple[Option, ...]]) -> list[Option]:
    """What is advised for several images at once: of a size the smallest, of a focal length one that they agree on."""
    values: dict[str, list[Option]] = {}
    for remedy in (remedy for remedies in found for remedy in remedies):
        values.setdefault(remedy.name, []).append(remedy)
    joint = []
    for option, remedies in values.items():
        if option == "camera_params":
            joint += _one_focal_length(remedies)
        elif option in ("max_size", "max_keypoints"):
            joint.append(min(remedies, key=lambda remedy: int(remedy.value)))
        else:
            joint.append(remedies[0])
    return joint


def _one_focal_length(remedies: Sequence[Option]) -> list[Option]:
    lengths = [float(remedy.value.split(",")[0]) for remedy in remedies]
    others = {remedy.value.partition(",")[2] for remedy in remedies}  # of one size and model
    if len(others) > 1 or max(lengths) > (1 + _AGREEING) * min(lengths):
        return []
    middle = sorted(remedies, key=lambda remedy: float(remedy.value.split(",")[0]))[len(remedies) // 2]
    return [Option(middle.name, f"{median(lengths):.0f},{others.pop()}", middle.condition)]
