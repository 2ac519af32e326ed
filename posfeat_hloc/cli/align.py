"""Move a model to known positions of its cameras, or onto another model.

posfeat-hloc align outputs/photos --positions positions.txt --output outputs/aligned
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, and what it is aligned to."""
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="output folder of sfm, or a COLMAP model")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--positions", type=Path, metavar="FILE",
        help="where cameras are: 'name x y z' a line, in any Cartesian frame")  # fmt: skip
    target.add_argument("--to", type=Path, metavar="MODEL", help="a model with some of the same images")
    add("--output", type=Path, required=True, metavar="DIR", help="folder of the moved model")
    add("--max-error", type=float, metavar="D",
        help="positions further off do not count (default: a fiftieth of their extent)")  # fmt: skip
    add("--seed", type=int, default=0, help="of RANSAC (default: %(default)s)")


def run(args: argparse.Namespace) -> bool:
    """Move the model, and say how well it fits."""
    from posfeat_hloc.sfm.alignment import align_map

    found = align_map(args.model, args.output, args.to, args.positions, args.max_error, args.seed)
    fit = f"{found.common} cameras at a median distance of {found.distance:.4g}"
    print(f"{args.output}: scale {found.similarity.scale:.6g}, {fit}")
    if found.note:
        print(f"note: {found.note}")
    return True
