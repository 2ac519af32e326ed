"""How long an image takes while something else keeps one core busy: threads that count while they wait, and that sleep.

    python benchmarks/busy_machine.py --image photo.jpg --features posfeat posfeat-small

Each line is a process of its own that loads torch first, as hloc does, beside busy loops at the same priority.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
WAYS = ("counting", "asleep", "one thread")


def main() -> None:
    """Print a line for each feature and way of waiting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--features", nargs="+", default=["posfeat-small", "posfeat"])
    parser.add_argument("--max-size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5, help="images that each way takes, the ways in turns")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--busy", type=int, default=1, metavar="N", help="busy loops beside")
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        measure(args)
        return
    loops = [multiprocessing.get_context("spawn").Process(target=keep_busy, daemon=True) for _ in range(args.busy)]
    for loop in loops:
        loop.start()
    print(f"{'feature':20} {'waiting':12} {'s an image (least, median)':28} CPU s an image")
    for feature in args.features:
        for way, seconds, used in in_turns(args, feature):
            print(f"{feature:20} {way:12} {min(seconds):.2f}, {median(seconds):<20.2f} {median(used):.2f}", flush=True)
    for loop in loops:
        loop.kill()


def in_turns(args: argparse.Namespace, feature: str) -> list[tuple[str, list[float], list[float]]]:
    """Seconds and CPU seconds of each way, an image at a time, so that all meet the same other work."""
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")}
    clean.pop("OMP_NUM_THREADS", None)
    command = [sys.executable, __file__, "--image", str(args.image), "--features", feature]
    command += ["--max-size", str(args.max_size)]
    children = [
        subprocess.Popen(
            [*command, "--child", way], env=clean, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for way in args.ways
    ]
    found: list[list[tuple[float, float]]] = [[] for _ in children]
    for _ in range(args.rounds + 1):
        for child, results in zip(children, found, strict=True):
            assert child.stdin is not None
            assert child.stdout is not None
            print("go", file=child.stdin, flush=True)
            results.append(tuple(json.loads(child.stdout.readline())))
    for child in children:
        child.communicate()  # which closes its input: it ends
    timed = [list(zip(*results[1:], strict=True)) for results in found]  # the first one also allocates
    return [(way, list(wall), list(cpu)) for way, (wall, cpu) in zip(args.ways, timed, strict=True)]


def keep_busy() -> None:
    """Whatever else runs on the machine."""
    while True:
        pass


def measure(args: argparse.Namespace) -> None:
    """An image for each line of input, and its seconds and CPU seconds as JSON."""
    import time

    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        os.environ.pop(name, None)  # what the interpreter's start may have set
    sys.path[:0] = [str(ROOT)]
    import torch

    from posfeat_hloc import confs, extractors
    from posfeat_hloc.images.decoding import read_image
    from posfeat_hloc.images.loader import picture_tensor

    if args.child != "asleep":
        extractors.spin_shortly = lambda: None
    if args.child == "one thread":
        torch.set_num_threads(1)
    conf = confs.extractors[args.features[0]]
    extractor = extractors.create(conf["model"])
    pixels = read_image(args.image).pixels
    image = picture_tensor(pixels, conf["preprocessing"] | {"resize_max": args.max_size}, extractor.grayscale)[None]
    for _ in sys.stdin:
        start, before = time.perf_counter(), time.process_time()
        extractor(image)
        print(json.dumps([time.perf_counter() - start, time.process_time() - before]), flush=True)


if __name__ == "__main__":
    main()
