"""COLMAP's own SIFT on a folder of photographs: the peer that our features stand beside.

    python benchmarks/colmap_sift.py --images DIR --output DIR

Writes `database.db`, `sparse/<n>/` and `summary.json` (the same fields as `pipelines.sfm`).
It is also how the reconstructions used to train the shipped weights were made.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import pycolmap


def reconstruct(images: Path, output: Path, seed: int = 0) -> dict[str, object]:
    """Run SIFT extraction, exhaustive matching and incremental mapping with COLMAP's defaults."""
    output.mkdir(parents=True, exist_ok=True)
    database = output / "database.db"
    database.unlink(missing_ok=True)
    pycolmap.set_random_seed(seed)
    seconds: dict[str, float] = {}

    start = time.perf_counter()
    pycolmap.extract_features(database, images)
    seconds["extract"] = time.perf_counter() - start

    start = time.perf_counter()
    pycolmap.match_exhaustive(database)
    seconds["match+verify"] = time.perf_counter() - start

    start = time.perf_counter()
    (output / "sparse").mkdir(exist_ok=True)
    options = pycolmap.IncrementalPipelineOptions(random_seed=seed)
    models = pycolmap.incremental_mapping(database, images, output / "sparse", options)
    seconds["map"] = time.perf_counter() - start

    with pycolmap.Database.open(database) as db:
        total = db.num_images()
    best = max(models, key=lambda m: models[m].num_reg_images(), default=None)
    summary: dict[str, object] = {"images": total, "registered": 0, "seconds": seconds}
    if best is not None:
        model = models[best]
        summary |= {
            "model": str(output / "sparse" / str(best)),
            "registered": model.num_reg_images(),
            "points": model.num_points3D(),
            "track_length": model.compute_mean_track_length(),
            "reprojection_error": model.compute_mean_reprojection_error(),
        }
    (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def main() -> None:
    """Print the summary as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(json.dumps(reconstruct(args.images, args.output, args.seed), indent=2))


if __name__ == "__main__":
    main()
