"""Write the page of a finished, or unfinished, run.

posfeat-hloc report outputs/photos
"""

from __future__ import annotations

import argparse
import warnings
from importlib.util import find_spec
from pathlib import Path

from posfeat_hloc.cli.summary import Summary
from posfeat_hloc.errors import ConfigurationError

NEEDED = ("jinja2", "matplotlib", "plotly")


HINT = 'pip install ".[report]"'


def missing() -> list[str]:
    """Packages that the page needs and that are not installed."""
    return [name for name in NEEDED if find_spec(name) is None]


def add_report_option(parser: argparse._ActionsContainer) -> None:
    """``--no-report``."""
    parser.add_argument("--no-report", action="store_true", help="do not write report.html")


def write_page(output: Path, args: argparse.Namespace) -> tuple[dict[str, str | None], str]:
    """Write ``report.html`` unless the user does not want it.

    Returns:
        ``report`` -> its path or None, and a line for the summary: where it is, or why it was not written. A run whose
        results are written never fails for its page.
    """
    none: dict[str, str | None] = {"report": None}
    if args.no_report:
        return none, ""
    if lacking := missing():
        return none, f"\n  report              not written: {', '.join(lacking)} not installed ({HINT})"
    from posfeat_hloc.report.page import write_report
    from posfeat_hloc.runtime.progress import waiting

    try:
        with warnings.catch_warnings(), waiting("report", not getattr(args, "quiet", False)):
            warnings.simplefilter("ignore")  # of matplotlib, about glyphs that its fonts lack
            path = write_report(output)
        return {"report": str(path)}, f"\n  report              {path}"
    except Exception as error:
        return none, f"\n  report              not written: {type(error).__name__}: {error}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``report``."""
    parser.add_argument("folder", type=Path, metavar="OUTPUT_DIR", help="output folder of sfm, localize, ...")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the photographs, if they have been moved")


def run(args: argparse.Namespace) -> Summary:
    """Write the page."""
    if lacking := missing():
        raise ConfigurationError(f"the report needs {', '.join(lacking)}: {HINT}")
    from posfeat_hloc.report.page import write_report

    path = write_report(args.folder, args.images)
    return Summary(str(path), {"report": path})
