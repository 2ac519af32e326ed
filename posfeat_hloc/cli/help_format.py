"""The form of ``--help``: a usage line with what is required, and short names of values."""

from __future__ import annotations

import argparse
import inspect
import textwrap
from collections.abc import Iterable
from typing import Any

_OPTIONS = argparse.Action([], "options", metavar="[options]")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """argparse's, with required flags alone in the usage line and ``X ...`` for several values."""

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[Any],
        prefix: str | None = None,
    ) -> None:
        """Required flags, positional arguments, and ``[options]`` for all others."""
        required = [group for group in groups if group.required]
        members = {id(action) for group in required for action in group._group_actions}
        named = [a for a in actions if a.option_strings and (a.required or id(a) in members)]
        positional = [a for a in actions if not a.option_strings]
        super().add_usage(usage, [*named, _OPTIONS, *positional], required, prefix)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Paragraphs of prose are filled; commands, which are indented, keep their lines."""
        return "\n\n".join(
            textwrap.indent(part, "  ") if part.startswith("posfeat-hloc ") else
            part if part.startswith(" ") else
            textwrap.fill(part, width, break_long_words=False, break_on_hyphens=False)
            for part in inspect.cleandoc(text).split("\n\n")
        )  # fmt: skip

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        if action.nargs in ("+", "*") and not isinstance(action.metavar, tuple):
            (name,) = self._metavar_formatter(action, default_metavar)(1)
            return f"{name} ..."
        return super()._format_args(action, default_metavar)
