"""What helps against the causes of a failed reconstruction: options of a reconstruction, and what no option can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posfeat_hloc import confs
from posfeat_hloc.errors import Option


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
    "wrong focal length": Remedies((Option("camera", "single", "if one camera with one zoom took them all"),)),
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
