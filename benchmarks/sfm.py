"""Reconstruct data sets with several features and with COLMAP's own SIFT, side by side in one run.

    python benchmarks/sfm.py --datasets fountain-P11/images door/images --output runs/sfm

Each reconstruction is a process of its own, so that seconds and peak memory are those of a user's command. Where a
folder `cameras` with Strecha's files lies beside the images, poses are compared with it. A finished one is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from posfeat_hloc.evaluation.poses import pose_errors, read_strecha_cameras
from posfeat_hloc.sfm.models import read_model

REPOSITORY = Path(__file__).parents[1]


def measure(images: Path, method: str, output: Path, extra: list[str]) -> dict[str, Any]:
    """Run one reconstruction and collect its summary, seconds, memory and pose errors."""
    if method == "colmap":
        command = [sys.executable, str(REPOSITORY / "benchmarks/colmap_sift.py")]
    else:
        command = [sys.executable, "-m", "pipelines.sfm", "--feature", method, *extra]
    command += ["--images", str(images), "--output", str(output)]
    record = output / "measured.json"
    if not record.exists():
        output.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        with (output / "terminal.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)  # the memory of this child alone
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        record.write_text(json.dumps({"seconds": seconds, "peak_mb": usage.ru_maxrss / 1024}))
    result: dict[str, Any] = json.loads(record.read_text())
    summary = json.loads((output / "summary.json").read_text())
    model = summary.get("model")
    result |= {"images": summary["images"], "registered": summary["registered"], "stages": summary["seconds"]}
    if model:
        fields = model if isinstance(model, dict) else summary
        result |= {k: fields[k] for k in ("points", "track_length", "reprojection_error")}
        result["images_per_point"] = fields.get("images_per_point")  # COLMAP does not count it
        cameras = images.parent / "cameras"
        if cameras.is_dir():
            path = model["path"] if isinstance(model, dict) else model
            errors = pose_errors(read_model(Path(path)), read_strecha_cameras(cameras))
            result |= {
                "rotation_deg": float(np.median(errors.rotation)),
                "rotation_max_deg": float(errors.rotation.max()),
                "position": float(np.median(errors.position)),
                "position_max": float(errors.position.max()),
            }
    return result


def row(dataset: str, method: str, r: dict[str, Any]) -> str:
    """One line of the table in Markdown."""
    if "points" in r:
        seen = f"{r['images_per_point']:.2f}" if r["images_per_point"] else "-"
        quality = f"{r['points']} | {r['track_length']:.2f} | {seen} | {r['reprojection_error']:.2f}"
    else:
        quality = "- | - | - | -"
    poses = "- | -"
    if "rotation_deg" in r:
        rotation = f"{r['rotation_deg']:.3f} / {r['rotation_max_deg']:.3f}"
        poses = f"{rotation} | {1000 * r['position']:.1f} / {1000 * r['position_max']:.1f}"
    return (
        f"| {dataset} | {method} | {r['registered']}/{r['images']} | {quality} | {poses} "
        f"| {r['seconds']:.0f} | {r['peak_mb']:.0f} |"
    )


def main() -> None:
    """Run everything and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=Path, nargs="+", required=True, help="folders of images")
    parser.add_argument("--methods", nargs="+", default=["d2d-hardnet", "sift", "colmap"])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="further options of pipelines.sfm")
    args = parser.parse_args()
    print("| images | feature | registered | points | track | images | reproj. px | rotation ° median / max "
          "| position mm median / max | seconds | peak MB |")  # fmt: skip
    print("|" + "---|" * 11)
    for images in args.datasets:
        dataset = images.parent.name if images.name == "images" else images.name
        for method in args.methods:
            result = measure(images.resolve(), method, args.output.resolve() / dataset / method, args.extra)
            print(row(dataset, method, result), flush=True)


if __name__ == "__main__":
    main()
