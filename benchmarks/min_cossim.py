"""Which matches a limit on the cosine keeps: for `brute_force_min_cossim` of COLMAP's matcher (docs/onnx.md).

    python benchmarks/min_cossim.py --photos scenes/een_07_heidelberg/images places/porto_clerigos

Mutual nearest neighbors of all pairs of photographs of a folder; two-view geometry confirms some of them. Only pairs
with at least 30 confirmed matches are counted. Use photographs that were neither used for training nor for tests.
"""

from __future__ import annotations

import argparse
import tempfile
from copy import deepcopy
from pathlib import Path

import numpy as np
import pycolmap

from posfeat_hloc import confs, extract_features, extractors, match_features
from posfeat_hloc.sfm.database import build_database, verify
from posfeat_hloc.sfm.pairs import exhaustive_pairs
from posfeat_hloc.stores import FeatureStore, MatchStore
from posfeat_hloc.stores.pairs import write_pairs

LIMITS = (0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85)
LEAST = 30


def cosines(database: Path, matches: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Cosines of confirmed matches and of the others, and the number of pairs."""
    confirmed, others, pairs = [], [], 0
    with pycolmap.Database.open(database) as db, MatchStore(matches) as store:
        names = {image.image_id: image.name for image in db.read_all_images()}
        for pair, geometry in zip(*db.read_two_view_geometries(), strict=True):
            inliers = geometry.inlier_matches
            if len(inliers) < LEAST:
                continue
            found = store.read(*(names[i] for i in pycolmap.pair_id_to_image_pair(pair)))
            cosine = 2 * found.scores.astype(np.float64) - 1
            agrees = np.zeros(len(cosine), bool)
            agrees[inliers[:, 0]] = True
            confirmed.append(cosine[agrees])
            others.append(cosine[(found.indices >= 0) & ~agrees])
            pairs += 1
    if not pairs:
        raise SystemExit(f"{database}: no pair has {LEAST} confirmed matches; take photographs that overlap")
    return np.concatenate(confirmed), np.concatenate(others), pairs


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--feature", choices=confs.ONNX_FEATURES, default=confs.DEFAULT_FEATURE)
    parser.add_argument("--weights", help="other weights than the conf's")
    parser.add_argument("--max-size", type=int, default=1024, help="longer side in pixels (default: %(default)s)")
    parser.add_argument("--max-keypoints", type=int, default=2048)
    args = parser.parse_args()
    pycolmap.logging.minloglevel = 2
    conf = deepcopy(confs.extractors[args.feature])
    conf["preprocessing"]["resize_max"] = args.max_size
    conf["model"] = extractors.with_limit(conf["model"], args.max_keypoints)
    if args.weights:
        conf["model"]["weights"] = args.weights
    print("| photographs | pairs | matches confirmed, others | " + " | ".join(f"{x:g}" for x in LIMITS) + " |")
    print("|" + "---|" * (3 + len(LIMITS)))
    for photos in args.photos:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            features = extract_features.main(conf, photos, folder)
            with FeatureStore(features) as store:
                names = store.names()
            pairs = exhaustive_pairs(names)
            write_pairs(folder / "pairs.txt", pairs)
            matches = match_features.main(confs.matchers["NN-mutual"], folder / "pairs.txt", features, folder)
            build_database(folder / "database.db", photos, features, matches, names, pairs, progress=False)
            verify(folder / "database.db")
            confirmed, others, count = cosines(folder / "database.db", matches)
        kept = " | ".join(f"{(confirmed >= x).mean():.0%}, {(others >= x).mean():.0%}" for x in LIMITS)
        print(f"| {'/'.join(photos.parts[-2:])} | {count} | {len(confirmed)}, {len(others)} | {kept} |", flush=True)


if __name__ == "__main__":
    main()
