"""How long an image takes while something else keeps one core busy: threads that count while they wait, and that sleep.

    python benchmarks/busy_machine.py --image photo.jpg --features posfeat posfeat-small

Each line is a process of its own that loads torch first, as hloc does, beside a busy loop at the same priority.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WAYS = ("counting", "asleep", "one thread")


def main() -> None:
    """Print a line for each feature and way of waiting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--features", nargs="+", default=["posfeat-small", "posfeat"])
    parser.add_argument("--max-size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", action="store_true", help="without the busy loop")
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        measure(args)
        return
    busy = multiprocessing.get_context("spawn").Process(target=keep_busy, daemon=True)
    if not args.idle:
        busy.start()
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")}
    print(f"{'feature':20} {'waiting':12} {'s an image (least, median)':28} CPU s an image")
    for feature in args.features:
        for way in WAYS:
            command = [sys.executable, __file__, "--image", str(args.image), "--features", feature, "--child", way]
            command += ["--max-size", str(args.max_size), "--rounds", str(args.rounds)]
            done = subprocess.run(command, env=clean, capture_output=True, text=True, check=True)
            seconds, used = json.loads(done.stdout.splitlines()[-1])
            print(f"{feature:20} {way:12} {min(seconds):.2f}, {sorted(seconds)[len(seconds) // 2]:<20.2f} {used:.2f}")
    if busy.is_alive():
        busy.kill()


def keep_busy() -> None:
    """Whatever else runs on the machine."""
    while True:
        pass


def measure(args: argparse.Namespace) -> None:
    """Seconds of each round, and CPU seconds of all of them by their number, as JSON."""
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
    extractor(image)
    seconds, before = [], time.process_time()
    for _ in range(args.rounds):
        start = time.perf_counter()
        extractor(image)
        seconds.append(time.perf_counter() - start)
    print(json.dumps([seconds, (time.process_time() - before) / args.rounds]))


if __name__ == "__main__":
    main()
