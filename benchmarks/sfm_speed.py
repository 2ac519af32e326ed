"""A whole reconstruction by us and by hloc with the same feature: wall time and peak memory of a process each.

    python benchmarks/sfm_speed.py --images fountain-P11/images --output runs/sfm_speed
    python benchmarks/sfm_speed.py --images entry-P10/images --output runs/single --sides ours coarse \
        --options --camera single

Needs an hloc that can be imported. hloc's side is its `extract_features.main`, `pairs_from_exhaustive.main`,
`match_features.main` and `reconstruction.main` with our feature registered and hloc's own matcher of the same name. A
finished side is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

from posfeat_hloc import confs, hloc_plugin
from posfeat_hloc.cli.arguments import positive
from posfeat_hloc.errors import PosfeatError
from posfeat_hloc.hloc_plugin.installation import load
from posfeat_hloc.runtime.progress import timed
from posfeat_hloc.sfm.models import summarize

REPOSITORY = Path(__file__).parents[1]
SIDES = ("ours", "coarse", "hloc")
"""``coarse``: ours, coarse to fine."""


def reconstruct_with_hloc(images: Path, feature: str, max_keypoints: int, output: Path) -> None:
    """hloc's functions in a row; writes ``summary.json`` as far as the table needs it."""
    names = hloc_plugin.register()
    extraction, matching = load("hloc.extract_features", "main"), load("hloc.match_features", "main")
    pairing, mapping = load("hloc.pairs_from_exhaustive", "main"), load("hloc.reconstruction", "main")
    seconds: dict[str, float] = {}
    pairs, matches = output / "pairs.txt", output / "matches.h5"
    conf = deepcopy(extraction.confs[names.extractors[feature]])
    conf["model"]["max_keypoints"] = max_keypoints
    with timed(seconds, "extract"):
        features = extraction.main(conf, images, output)
    pairing.main(pairs, features=features)
    with timed(seconds, "match"):
        matching.main(matching.confs[confs.default_matchers[feature]], pairs, features, matches=matches)
    with timed(seconds, "map"):
        model = mapping.main(output / "sfm", images, pairs, features, matches)
    found = None if model is None else asdict(summarize(model, output / "sfm"))
    (output / "summary.json").write_text(json.dumps({"seconds": seconds, "model": found}))


def measure(
    side: str, images: Path, feature: str, max_keypoints: int, output: Path, options: Sequence[str] = ()
) -> dict[str, Any]:
    """Run one side in a process of its own and collect its summary, seconds and memory.

    ``options`` are of ``pipelines.sfm``, and do not reach hloc.
    """
    record = output / "measured.json"
    if not record.exists():
        output.mkdir(parents=True, exist_ok=True)
        if side != "hloc":
            command = [
                sys.executable,
                "-m",
                "pipelines.sfm",
                *(["--coarse"] if side == "coarse" else []),
                *options,
            ]
        else:
            command = [sys.executable, str(Path(__file__).resolve()), "--side", "hloc"]
        command += ["--images", str(images), "--feature", feature, "--max-keypoints", str(max_keypoints)]
        command += ["--output", str(output)]
        start = time.perf_counter()
        with (output / "terminal.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)  # the memory of this child alone
        if os.waitstatus_to_exitcode(status):
            raise PosfeatError(f"{side} failed; see {output / 'terminal.log'}")
        measured = {
            "wall": time.perf_counter() - start,
            "cpu": usage.ru_utime + usage.ru_stime,
            "peak_mb": usage.ru_maxrss / 1024,
        }
        record.write_text(json.dumps(measured))
    summary = json.loads((output / "summary.json").read_text())
    return json.loads(record.read_text()) | {"stages": summary["seconds"], "model": summary["model"] or {}}


def row(name: str, side: str, found: dict[str, Any]) -> str:
    """One line of the table in Markdown."""
    model, stages = found["model"], found["stages"]
    matching = stages["match"] + stages.get("match finely", 0)
    mapping = sum(stages.get(name, 0) for name in ("map", "verify", "map finely", "verify finely"))
    return (
        f"| {name} | {side} | {found['wall']:.0f} | {found['cpu']:.0f} | {found['peak_mb']:.0f} "
        f"| {stages['extract']:.0f} | {matching:.0f} | {mapping:.0f} | {model.get('registered', 0)} "
        f"| {model.get('points', 0)} | {model.get('reprojection_error', float('nan')):.2f} |"
    )


def main() -> None:
    """Run both sides and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--feature", choices=list(confs.extractors), default=confs.DEFAULT_FEATURE)
    parser.add_argument("--max-keypoints", type=positive, default=8192, metavar="N")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--sides", choices=SIDES, nargs="+", default=SIDES, help="default: all")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], metavar="OPTION",
        help="last of all: more options of pipelines.sfm, for our sides, as --options --camera single")  # fmt: skip
    parser.add_argument("--side", choices=["hloc"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    images, output = args.images.resolve(), args.output.resolve()
    try:
        if args.side:
            reconstruct_with_hloc(images, args.feature, args.max_keypoints, output)
            return
        if "hloc" in args.sides:
            load("hloc.reconstruction", "main")  # before anything runs for hours
            matcher = confs.default_matchers[args.feature]
            if matcher not in load("hloc.match_features", "confs").confs:
                raise PosfeatError(f"{args.feature} is matched by {matcher}, which hloc lacks; take another feature")
        print("| images | side | wall, s | CPU, s | peak MB | extract, s | match, s | verify and map, s | registered "
              "| points | reproj. px |")  # fmt: skip
        print("|" + "---|" * 11)
        name = images.parent.name if images.name == "images" else images.name
        found = {}
        for side in args.sides:
            folder = output / name / args.feature / side.replace(" ", "-")
            found[side] = measure(side, images, args.feature, args.max_keypoints, folder, args.options)
            print(row(name, side, found[side]), flush=True)
        if not {"ours", "hloc"} <= found.keys():
            return
        ratios = [found["hloc"][key] / found["ours"][key] for key in ("wall", "cpu", "peak_mb")]
        print("hloc / ours: {:.1f} of the wall time, {:.1f} of the CPU time, {:.1f} of the memory".format(*ratios))
    except PosfeatError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
