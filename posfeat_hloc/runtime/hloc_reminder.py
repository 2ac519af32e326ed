"""What hloc says when it is given a conf of this package before :func:`posfeat_hloc.register` was called.

hloc imports ``hloc.extractors.<name>``, and Python would say no more than that there is no such module.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

_PLUGIN = Path(__file__).parents[1] / "hloc_plugin"
_FOLDERS = {"hloc.extractors": _PLUGIN / "extractors", "hloc.matchers": _PLUGIN / "matchers"}


class _Reminder(MetaPathFinder):
    """The last to be asked for a module, so only for those that nobody has."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Raise ModuleNotFoundError for a model of this package inside hloc; None for all else."""
        package, _, model = fullname.rpartition(".")
        if package in _FOLDERS and (_FOLDERS[package] / f"{model}.py").is_file():
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: {model} is a model of posfeat_hloc, which hloc does not know yet; "
                "call posfeat_hloc.register() once, before hloc's functions",
                name=fullname,
            )
        return None


def install() -> None:
    """Be asked for modules from now on."""
    if not any(isinstance(finder, _Reminder) for finder in sys.meta_path):
        sys.meta_path.append(_Reminder())
