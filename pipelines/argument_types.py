"""Types of options that several commands have."""

from __future__ import annotations

import argparse

from posfeat_hloc.evaluation.poses import Threshold


def positive(text: str) -> int:
    """A number of things on a command line."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return int(text)


def thresholds(text: str) -> tuple[Threshold, ...]:
    """Distances and degrees, ``0.25,2 0.5,5``."""
    try:
        pairs = [[float(value) for value in part.split(",")] for part in text.split()]
        if not pairs or any(len(pair) != 2 or min(pair) < 0 for pair in pairs):
            raise ValueError("not pairs of numbers")
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list like '0.25,2 0.5,5'") from error
    return tuple((distance, angle) for distance, angle in pairs)
