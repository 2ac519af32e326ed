"""Write the page of a finished, or unfinished, run.

posfeat-hloc report outputs/photos
"""

from __future__ import annotations

import argparse
from pathlib import Path

from posfeat_hloc.cli.page import HINT, missing
from posfeat_hloc.errors import ConfigurationError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``report``."""
    parser.add_argument("folder", type=Path, metavar="OUTPUT_DIR", help="output folder of sfm, localize, ...")
    parser.add_argument("--images", type=Path, metavar="DIR", help="the photographs, where they have moved")


def run(args: argparse.Namespace) -> bool:
    """Write the page and say where."""
    if lacking := missing():
        raise ConfigurationError(f"the report needs {', '.join(lacking)}: {HINT}")
    from posfeat_hloc.report.page import write_report

    print(write_report(args.folder, args.images))
    return True
