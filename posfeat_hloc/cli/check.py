"""Check whether stored files are intact, and keep what is.

posfeat-hloc check results/features.h5 --repair
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from posfeat_hloc.cli.summary import Summary
from posfeat_hloc.errors import PosfeatError

if TYPE_CHECKING:
    from posfeat_hloc.stores.integrity_check import FileReport

_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``check``."""
    add = parser.add_argument
    add("files", type=Path, nargs="+", metavar="FILE",
        help="features, matches or global descriptors, ours or hloc's; or a COLMAP database")  # fmt: skip
    add("--features", type=Path, nargs="+", default=[], metavar="FILE",
        help="the features of the matches: detects indices of missing keypoints; two files for matches of "
        "queries and a map")  # fmt: skip
    add("--repair", action="store_true",
        help="replace a damaged file by one with its intact groups; keep the damaged one as FILE.damaged")  # fmt: skip
    add("--time-limit", type=float, default=20.0, metavar="S",
        help="seconds without progress after which a group counts as unreadable (default: %(default)s)")  # fmt: skip


def run(args: argparse.Namespace) -> Summary:
    """Check all files and list what is damaged; complete if all are intact or repaired."""
    intact: dict[str, bool] = {}
    for path in args.files:
        try:
            intact[str(path)] = _check_one(path, args)
        except PosfeatError as error:  # the other files are still checked
            print(f"{error}")
            intact[str(path)] = False
    return Summary("", {"intact": intact}, all(intact.values()))


def _check_one(path: Path, args: argparse.Namespace) -> bool:
    from posfeat_hloc.sfm.integrity import check_database, is_database  # COLMAP, which HDF5 needs not
    from posfeat_hloc.stores.integrity_check import check_file, repair_file

    if is_database(path):
        damaged = check_database(path)
        print(f"{path}: COLMAP database, {'damaged' if damaged else 'intact'}")
        _list(damaged)
        if damaged:
            print("  delete it and run the same command again: it is rebuilt from features and matches")
        return not damaged
    report = check_file(path, args.features, args.time_limit)
    _describe(report)
    if not report.damaged:
        return True
    if not args.repair:
        print(
            "  --repair keeps the intact groups; the command that wrote the file recomputes the rest"
            if report.intact
            else "  nothing can be kept: delete it and run the same command again"
        )
        return False
    kept = repair_file(report, args.time_limit)
    print(f"  repaired: {path} holds the {len(report.intact)} intact groups, {kept.name} is the damaged file")
    if "configuration" in report.damaged:
        print("  nothing can be added to it, because its configuration is lost: it can only be read")
        return False
    print("  now run the command that wrote it again: it recomputes the rest")
    return True


def _describe(report: FileReport) -> None:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report.kinds.items())) or "nothing"
    print(f"{report.path}: {kinds} intact, {len(report.damaged) or 'nothing'} damaged")
    for note in report.notes:
        print(f"  note: {note}")
    _list(report.damaged)


def _list(damaged: dict[str, str]) -> None:
    for name, problem in list(damaged.items())[:_SHOWN]:
        print(f"  damaged: {name}: {problem}")
    if len(damaged) > _SHOWN:
        print(f"  ... and {len(damaged) - _SHOWN} more")
