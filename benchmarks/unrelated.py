"""Photographs of several places in one folder: which pairs COLMAP's verification takes for related, and which ours.

    python benchmarks/unrelated.py --images lund/images fountain-P11/images --output runs/unrelated

Each folder shows one place, so that a pair of images from two folders is wrong. Features and matches are made once; a
database is verified by COLMAP alone and one by ``verify``, and both are mapped. Finished features and matches are kept.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import pycolmap

from posfeat_hloc import confs
from posfeat_hloc.errors import PosfeatError
from posfeat_hloc.extract_features import extract
from posfeat_hloc.match_features import match
from posfeat_hloc.sfm.database import build_database, verify
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.sfm.pairs import exhaustive_pairs
from posfeat_hloc.sfm.reconstruction import reconstruct


def collect(folders: list[Path], images: Path) -> None:
    """Link all images into one folder, those of a place in a folder of their own."""
    images.mkdir(parents=True, exist_ok=True)
    for number, folder in enumerate(folders):
        link = images / str(number)
        if not link.exists():
            link.symlink_to(folder.resolve(), target_is_directory=True)


def verified(database: Path) -> Counter[bool]:
    """Pairs with inliers: how many join images of one place, and how many of two (True)."""
    with pycolmap.Database.open(database) as db:
        place = {image.image_id: image.name.split("/")[0] for image in db.read_all_images()}
        pair_ids, counts = db.read_two_view_geometry_num_inliers()
        found = [pycolmap.pair_id_to_image_pair(p) for p, n in zip(pair_ids, counts, strict=True) if n > 0]
    return Counter(place[a] != place[b] for a, b in found)


def row(side: str, output: Path, database: Path, images: Path) -> str:
    """Map a database, and say in Markdown what became of its pairs and images."""
    pairs = verified(database)
    models = reconstruct(database, images, output / f"{database.stem}-sparse")
    told = []
    for summary in models:
        model = read_model(Path(summary.path))
        places = Counter(model.images[i].name.split("/")[0] for i in model.reg_image_ids())
        told.append(" + ".join(str(places[place]) for place in sorted(places)) + f" ({summary.points} points)")
    return f"| {side} | {pairs[False]} | {pairs[True]} | {'; '.join(told) or 'none'} |"


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, nargs="+", required=True, metavar="DIR", help="one folder a place")
    parser.add_argument("--feature", choices=list(confs.extractors), default="posfeat-small")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    output, images = args.output, args.output / "images"
    try:
        collect(args.images, images)
        features, matches = output / f"features-{args.feature}.h5", output / f"matches-{args.feature}.h5"
        names = extract(confs.extractors[args.feature], images, features).names
        pairs = exhaustive_pairs(names)
        match(confs.matchers[confs.default_matchers[args.feature]], pairs, features, matches)
        total = Counter(a.split("/")[0] != b.split("/")[0] for a, b in pairs)
        print(f"{args.feature}: {len(names)} images, {total[False]} pairs within a place, {total[True]} across\n")
        print("| verified by | pairs within | pairs across | images of each place in a model |\n|---|---|---|---|")
        for side in ("colmap", "ours"):
            database = output / f"{args.feature}-{side}.db"
            build_database(database, images, features, matches, names, pairs)
            if side == "colmap":
                options = pycolmap.TwoViewGeometryOptions()
                options.ransac.random_seed = 0  # as verify has it
                pycolmap.geometric_verification(database, two_view_geometry_options=options)
            else:
                verify(database)
            print(row(side, output, database, images), flush=True)
    except PosfeatError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
