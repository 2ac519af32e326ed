"""Every stage of the pipelines stopped at random moments (SIGKILL, some Ctrl-C), run again, and compared.

    python -m tests.crash --rounds 100

A round stops a run one to three times at moments drawn over the stage's duration, then lets it end. It is survived when
Ctrl-C gave exit code 130 and a message, the last run ended well, left nothing behind, and made what an undisturbed run
makes: features, descriptors, matches, poses, points and weights to the last digit.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.crash.harness import Count, Workshop


def main(argv: list[str] | None = None) -> int:
    """Run the rounds and print the table; 1 where one was not survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help="of all stages together (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no round after this time")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="keeps the scene and the undisturbed runs for the next time")
    args = parser.parse_args(argv)
    rng, start = random.Random(args.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = args.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        workshop = Workshop(folder.resolve())
        counts = [Count() for _ in workshop.stages]
        for number in range(args.rounds):
            if time.monotonic() - start > args.seconds:
                break
            which = number % len(counts)
            workshop.round(workshop.stages[which], rng, counts[which])
    print(f"{'command':<10}{'stage':<10}{'lasts':>8}{'rounds':>8}{'kills':>8}{'Ctrl-C':>8}{'survived':>10}")
    for stage, count in zip(workshop.stages, counts, strict=True):
        print(
            f"{stage.command.__name__:<10}{stage.name:<10}{stage.lasts:>6.2f} s{count.rounds:>8}{count.kills:>8}"
            f"{count.interrupts:>8}{count.survived:>10}"
        )
        for problem in count.wrong:
            print(f"    {problem}")
    rounds, survived = sum(count.rounds for count in counts), sum(count.survived for count in counts)
    print(f"{survived} of {rounds} rounds survived, {time.monotonic() - start:.0f} s")
    return int(survived < rounds)


if __name__ == "__main__":
    sys.exit(main())
