"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        status: ``ok``; ``warn``: works, but look at it; ``fail``: something will not work.
        text: what was found.
        remedy: what to do; empty when there is nothing to do.
    """

    status: str
    text: str
    remedy: str = ""
