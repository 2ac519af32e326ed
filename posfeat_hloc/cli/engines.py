"""Who extracts and matches: this package, or an installed hloc with its own confs beside ours."""

from __future__ import annotations

import argparse
from copy import deepcopy
from typing import Any

from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError, HlocError, Option

ENGINES = ("posfeat_hloc", "hloc")


def add_common(parser: argparse.ArgumentParser, conf: str) -> None:
    """``--conf``, ``--overwrite``, ``--device`` and ``--engine``."""
    add = parser.add_argument
    add("--conf", default=conf, metavar="NAME", help="see `posfeat-hloc list` (default: %(default)s)")
    add("--overwrite", action="store_true", help="make again what is there")
    add("--device", default="auto", help="torch device: auto, cpu, cuda, ... (default: %(default)s)")
    add_engine(parser)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """``--engine``."""
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0],
        help="who does the work; hloc must be installed for hloc's (default: %(default)s)")  # fmt: skip


def available(engine: str, verb: str) -> dict[str, confs.Conf]:
    """The confs that an engine knows, by the names it has for them."""
    if engine == "hloc":
        from posfeat_hloc.hloc_plugin import register
        from posfeat_hloc.hloc_plugin.installation import load

        register()
        found: dict[str, confs.Conf] = load(f"hloc.{verb}_features", "confs").confs
        return found
    return confs.extractors if verb == "extract" else confs.matchers


def choose_conf(args: argparse.Namespace, verb: str) -> confs.Conf:
    """A copy of the conf that was asked for; our engine also takes the name that a conf of ours has in hloc."""
    from posfeat_hloc.hloc_plugin.registration import PREFIX

    known = available(args.engine, verb)
    name = args.conf if args.engine == "hloc" else args.conf.removeprefix(PREFIX)
    if name not in known:
        raise ConfigurationError(Option("conf"), f": {args.conf!r} is none of {', '.join(known)}")
    return deepcopy(known[name])


def run_hloc(verb: str, args: argparse.Namespace, *arguments: Any, **options: Any) -> None:
    """Call the ``main`` of hloc's extract_features or match_features; what it complains of becomes an HlocError."""
    from posfeat_hloc.hloc_plugin.installation import load, version

    if args.device != "auto":
        hidden = "hide it with CUDA_VISIBLE_DEVICES="
        raise ConfigurationError(Option("device"), f": hloc takes a GPU when there is one; {hidden}")
    try:
        load(f"hloc.{verb}_features", "main").main(*arguments, **options)
    except (AssertionError, KeyError, ValueError) as error:
        raise HlocError(f"hloc {version()} stopped ({type(error).__name__}: {error})") from error
