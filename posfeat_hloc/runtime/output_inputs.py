"""Of which inputs an output folder holds the results, so that a run never replaces those of other inputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.runtime.output import write_atomically

_FILE = "inputs.json"
_RESULTS = ("features.h5", "matches.h5", "sparse", "summary.json")


def claim(folder: Path, inputs: Sequence[Path | str]) -> None:
    """Record what an output folder is made from, or refuse it where that is something else.

    Inputs that were recorded and are no longer there have been moved, and do not count; neither do those of a run
    that ended before it had results.

    Args:
        folder: of results; exists.
        inputs: paths, or words for what is no path. One that was there before is enough, so that videos can be added.

    Raises:
        ConfigurationError: the folder holds results of other inputs; the message names both.
    """
    path = folder / _FILE
    given = [str(item.resolve()) if isinstance(item, Path) else item for item in inputs]
    recorded = _read(path)
    there = [item for item in recorded if not Path(item).is_absolute() or Path(item).exists()]
    if there and not set(there) & set(given) and any((folder / name).exists() for name in _RESULTS):
        first = Path(given[0])
        better = folder.with_name(f"{first.parent.name}-{first.stem}" if first.is_absolute() else f"{folder.name}-2")
        raise ConfigurationError(
            f"{folder}: holds results of {there[0]}, and this run is of {given[0]}; choose another folder, such as ",
            Option("output", better),
            ", or delete this one",
        )
    if recorded != given:
        write_atomically(path, json.dumps(given, indent=2, ensure_ascii=False) + "\n")


def _read(path: Path) -> list[str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [str(item).removeprefix("--") for item in found] if isinstance(found, list) else []  # "--demo" before
