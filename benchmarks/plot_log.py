"""Draw a training run: the loss of each step and what was validated.

python benchmarks/plot_log.py runs/hardnet/log.jsonl --metrics accuracy_dense --output weights/hardnet.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

SMOOTH = 25
"""Steps over which the drawn loss is averaged."""


def main() -> None:
    """Read ``log.jsonl``, write a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--metrics", nargs="+", required=True, help="names of validated numbers")
    parser.add_argument("--loss", default="loss")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    lines = [json.loads(line) for line in args.log.read_text().splitlines()]
    steps, losses = np.array([(line["step"], line[args.loss]) for line in lines if args.loss in line]).T
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), constrained_layout=True)
    left.plot(steps, losses, color="0.85", linewidth=0.6)
    if len(losses) >= SMOOTH:
        smooth = np.convolve(losses, np.ones(SMOOTH) / SMOOTH, mode="valid")
        left.plot(steps[SMOOTH - 1 :], smooth, color="C0", label=f"mean of {SMOOTH} steps")
        left.legend(frameon=False)
    left.set(xlabel="step", title="training loss")
    for name in args.metrics:
        at, values = np.array([(line["step"], line[name]) for line in lines if name in line]).T
        right.plot(at, values, marker=".", label=name.replace("_", " "))
    right.set(xlabel="step", title="held out")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    figure.savefig(args.output, dpi=110)


if __name__ == "__main__":
    main()
