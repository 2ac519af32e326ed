"""Tests of commands, as a user types them."""

from __future__ import annotations

import csv
from pathlib import Path


def rows(path: Path) -> list[dict[str, str]]:
    """A table that a command wrote."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
