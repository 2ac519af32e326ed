"""Join the models of a run that share points.

posfeat-hloc merge outputs/photos
"""

from __future__ import annotations

import argparse
from pathlib import Path

from posfeat_hloc.cli.map_text import described


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, and where the merged model goes."""
    add = parser.add_argument
    add("map", type=Path, metavar="MAP", help="output folder of sfm with several models in sparse/")
    add("--output", type=Path, metavar="DIR", help="folder of the merged model (default: MAP/merged)")
    add("--seed", type=int, default=0, help="of all random choices (default: %(default)s)")


def run(args: argparse.Namespace) -> bool:
    """Merge; False where no model could be joined."""
    from posfeat_hloc.sfm.merge import merge_map

    merged = merge_map(args.map, args.output, args.seed)
    for one in merged.joined:
        print(f"model {one.number} joined model 0: {one.agreed} of {one.common} common points agree")
    if merged.model is None:
        print(f"none of the {merged.left} other models shares enough points with model 0")
        return False
    print("\n".join(described(merged.model)))
    if merged.left:
        print(f"  left apart          {merged.left} models")
    return True
