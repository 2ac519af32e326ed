"""List, download, verify and convert weights, with their licences.

posfeat-hloc weights list
posfeat-hloc weights get hardnet++
posfeat-hloc weights verify
posfeat-hloc weights convert FOLDER posfeat.safetensors
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from posfeat_hloc.cli.summary import Summary
from posfeat_hloc.errors import WeightsError

if TYPE_CHECKING:
    from posfeat_hloc.weights.conversion import Identity

POSFEAT = (
    "PoSFeat                           none released by its authors\n"
    "  make your own (README, 'Train') or convert a checkpoint of the\n"
    "  authors' code: posfeat-hloc weights convert FOLDER OUT.safetensors"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is done, and with which weights."""
    actions = parser.add_subparsers(required=True, metavar="list|get|verify|convert|average")

    action = actions.add_parser("list", help="bundled and public weights")
    action.set_defaults(action=list_weights)

    action = actions.add_parser("get", help="download public weights, or resume an interrupted download")
    action.set_defaults(action=get_weights)
    action.add_argument("name", metavar="NAME", help="as `weights list` shows it")
    action.add_argument(
        "--output", dest="copy", metavar="FILE|DIR", help="copy the file to this path (a new folder ends in /)"
    )
    action.add_argument("--from", dest="source", type=Path, metavar="FILE",
        help="the file of public weights, where there is no connection: it is checked and copied")  # fmt: skip

    action = actions.add_parser("verify", help="compare hashes, and load the networks")
    action.set_defaults(action=verify_weights)
    action.add_argument("what", nargs="*", metavar="NAME|FILE",
        help="names, files, or folders with backbone.pth and localheader.pth (default: all installed)")  # fmt: skip

    action = actions.add_parser("convert", help="a checkpoint of the authors to one safetensors file")
    action.set_defaults(action=convert_weights)
    action.add_argument(
        "source", metavar="IN", help="a file, or PoSFeat's folder with backbone.pth and localheader.pth"
    )
    action.add_argument("file", type=Path, metavar="OUT", help="a file that ends in .safetensors")

    action = actions.add_parser("average", help="the mean of two weights of one network, one fine-tuned from the other")
    action.set_defaults(action=average_weights)
    action.add_argument("first", metavar="NAME|FILE")
    action.add_argument("second", metavar="NAME|FILE")
    action.add_argument("file", type=Path, metavar="OUT", help="a file that ends in .safetensors")
    action.add_argument("--share", type=float, default=0.5, help="of the second, 0 to 1 (default: %(default)s)")


def run(args: argparse.Namespace) -> Summary:
    """Run a subcommand."""
    summary: Summary = args.action(args)
    return summary


def list_weights(_: argparse.Namespace) -> Summary:
    """All weights, three lines each."""
    from posfeat_hloc import weights

    lines: list[str] = []
    found: list[dict[str, object]] = []
    for name, bundled in weights.BUNDLED.items():
        path = weights.weights_folder() / bundled.file
        where = f"{path}{_size(path)}" if path.is_file() else f"{path} is missing: install posfeat-hloc again"
        origin = f"in the package as {weights.version_of(name)}, {weights.OUR_LICENCE}"
        lines += _entry(name, origin, f"sha256 {bundled.sha256}", where)
        found.append({"name": name, "licence": weights.OUR_LICENCE, "digest": bundled.sha256, "file": path})
    for name, public in weights.PUBLIC.items():
        path = weights.public_path(name)
        where = f"{path}{_size(path)}"
        if not path.is_file():
            where = f"not downloaded yet: posfeat-hloc weights get {name}"
        lines += _entry(name, f"public, {public.licence}", f"{public.digest_kind} {public.digest}", where)
        found.append({
            "name": name, "licence": public.licence, "digest": public.digest, "file": path if path.is_file() else None,
        })  # fmt: skip
    return Summary("\n".join([*lines, POSFEAT]), {"weights": found})


def _entry(name: str, origin: str, digest: str, where: str) -> list[str]:
    from posfeat_hloc.weights.conversion import LOADERS, architecture_of

    head = f"{name:<22}{LOADERS[architecture_of(name)][0]:<12}"
    return [textwrap.fill(head + origin, 80, subsequent_indent=" " * len(head)), f"  {digest}", f"  {where}"]


def get_weights(args: argparse.Namespace) -> Summary:
    """Download weights, or copy bundled ones."""
    from posfeat_hloc.weights.conversion import fetch

    name, path, licence = fetch(args.name, args.copy, args.source)
    return Summary(f"{path}\n  {name}{_size(path)}, {licence}", {"file": path, "name": name, "licence": licence})


def verify_weights(args: argparse.Namespace) -> Summary:
    """Check weights one by one; whether all are valid."""
    from posfeat_hloc import weights
    from posfeat_hloc.weights.conversion import check

    wanted = args.what or [*weights.BUNDLED, *(name for name in weights.PUBLIC if weights.public_path(name).is_file())]
    lines: list[str] = []
    problems: dict[str, str | None] = {}
    for what in wanted:
        try:
            identity, digest = check(what)
        except WeightsError as error:
            lines.append(f"fail  {error}")
            problems[what] = str(error)
        else:
            lines += [f"ok    {what}: {describe(identity)}", f"      {digest}"]
            problems[what] = None
    return Summary("\n".join(lines), {"problems": problems}, not any(problems.values()))


def describe(identity: Identity) -> str:
    """Name and size in one line."""
    return f"{identity.name}, {identity.parameters / 1e6:.2f} M parameters"


def convert_weights(args: argparse.Namespace) -> Summary:
    """Write one safetensors file."""
    from posfeat_hloc.weights.conversion import convert, identify

    digest, count = convert(args.source, args.file)
    text = (
        f"{args.file}\n  {describe(identify(str(args.file)))}{_size(args.file)}\n"
        f"  all {count} tensors read again and equal\n  sha256 {digest}"
    )
    return Summary(text, {"file": args.file, "sha256": digest, "tensors": count})


def average_weights(args: argparse.Namespace) -> Summary:
    """Write the mean of two weights."""
    from posfeat_hloc.weights.conversion import average

    digest = average(args.first, args.second, args.file, args.share)
    return Summary(f"{args.file}{_size(args.file)}\n  sha256 {digest}", {"file": args.file, "sha256": digest})


def _size(path: Path) -> str:
    return f", {path.stat().st_size / 1e6:.1f} MB" if path.is_file() else ""
