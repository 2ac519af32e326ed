"""List the confs of features and matches, one line each."""

from __future__ import annotations

import argparse

from posfeat_hloc import confs
from posfeat_hloc.cli.engines import add_engine, available


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose confs."""
    add_engine(parser)


def run(args: argparse.Namespace) -> bool:
    """Print the confs of both commands."""
    for verb in ("extract", "match"):
        print(f"{verb} --conf")
        for name, conf in available(args.engine, verb).items():
            print(f"  {name:<24}{describe(conf)}")
    return True


def describe(conf: confs.Conf) -> str:
    """A conf in one line: its model with its options, and how images are read."""
    model = {key: value for key, value in conf["model"].items() if key != "name"}
    settings = [f"{key} {value}" for key, value in model.items()]
    if "preprocessing" in conf:
        reading = conf["preprocessing"]
        size = reading.get("resize_max")
        settings.append("grey" if reading.get("grayscale") else "color")
        settings.append("any size" if size is None else f"at most {size} px")
    name = confs.module_of(conf["model"])
    return f"{name}: {', '.join(settings)}" if settings else name
