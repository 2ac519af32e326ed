"""Options of ``pipelines.sfm`` that help against the causes of a failed reconstruction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from posfeat_hloc import confs


@dataclass(frozen=True)
class _Remedy:
    """What helps against a cause.

    Attributes:
        options: (option, value), the most promising first.
        besides: what no option can do.
    """

    options: tuple[tuple[str, str], ...]
    besides: str


_MORE = (("--max-size", "3200"), ("--max-keypoints", "16384"))
_STRONG = (("--feature", confs.DEFAULT_FEATURE), ("--feature", "d2d-hardnet-subpixel"))
"""The one in use is not advised."""
_ALL = ("--pairs", "exhaustive")

_REMEDIES = {
    "too few keypoints": _Remedy(
        (("--max-size", "3200"), *_STRONG), "leave out blurred, dark or empty photographs, or take them again"
    ),
    "no verified pair": _Remedy(
        (_ALL, *_STRONG, *_MORE), "take photographs between this view and the others: neighbours should share half"
    ),
    "disconnected component": _Remedy(
        (_ALL, *_STRONG, *_MORE), "take photographs that overlap with both parts"
    ),
    "pure rotation": _Remedy(
        (_ALL,), "take photographs from other places: turning on the spot gives no depth"
    ),
    "wrong focal length": _Remedy(
        (("--camera", "single"),), "if one camera and zoom took them all; or give known intrinsics by --camera-params"
    ),
    "repeated structure": _Remedy(
        (("--matcher", "NN-ratio"), ("--pairs", "sequential")),
        "the latter if the names are in the order of exposure; photographs with surroundings tell copies apart",
    ),
    "too few matches": _Remedy(
        (*_STRONG, *_MORE), "take photographs between this view and the others"
    ),
    "unclear": _Remedy(
        (("--camera", "single"), ("--mapper", "global"), *_STRONG), "look at its pairs in the report"
    ),
}  # fmt: skip

CAUSES = tuple(_REMEDIES)
"""Why an image may stay out of a model."""


def advise(cause: str, command: Mapping[str, Any]) -> str:
    """What to try next against a cause.

    Args:
        cause: one of :data:`CAUSES`.
        command: options in use, by their names on the command line with ``_`` for ``-``; these are not advised again.
    """
    remedy = _REMEDIES[cause]
    options = [
        f"{option} {value}"
        for option, value in remedy.options
        if str(command.get(option.removeprefix("--").replace("-", "_"))) != value
    ]
    return "; ".join(part for part in (" or ".join(options[:2]), remedy.besides) if part)
