"""What float16 keypoints, as hloc stores them, cost: the same features and matches reconstructed in each precision.

    python benchmarks/keypoint_precision.py --images door/images --run runs/sfm/door/sift

`--run` is the output folder of a finished `pipelines.sfm`.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pycolmap

from posfeat_hloc.sfm.database import build_database, verify
from posfeat_hloc.sfm.reconstruction import MapperOptions, reconstruct
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.stores.pairs import read_pairs


def main() -> None:
    """Print one line for each precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    args = parser.parse_args()
    pycolmap.logging.minloglevel = 2
    print("| keypoints | registered | points | track | reproj. px |\n|---|---|---|---|---|")
    for precision in (np.float32, np.float16):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            features = folder / "features.h5"
            shutil.copy(args.run / "features.h5", features)
            with FeatureStore(features) as store:
                names = store.names()
            with h5py.File(features, "r+") as file:
                for image in names:
                    keypoints = file[image]["keypoints"]
                    keypoints[...] = keypoints[()].astype(precision).astype(np.float32)
            pairs = read_pairs(args.run / "pairs.txt", names)
            database = folder / "database.db"
            build_database(database, args.images, features, args.run / "matches.h5", names, pairs, progress=False)
            verify(database)
            models = reconstruct(database, args.images, folder / "sparse", MapperOptions(), progress=False)
            best = models[0]
            print(
                f"| {np.dtype(precision).name} | {best.registered} | {best.points} | {best.track_length:.3f} "
                f"| {best.reprojection_error:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
