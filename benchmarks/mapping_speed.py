"""Import, verification, triangulation at known poses and localization, by us and by hloc: seconds on the same files.

    python -m pipelines.miniature_aachen --output miniature
    python -m pipelines.aachen --feature posfeat-small --dataset miniature --output run
    python benchmarks/mapping_speed.py --dataset miniature --run run

Needs an hloc that can be imported. Each stage runs in this process, ours and hloc's in turn; the smallest of --repeat
times counts. CPU seconds are those of all threads, and say more than the others where the machine is busy.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pycolmap

from posfeat_hloc.aachen.layout import open_dataset
from posfeat_hloc.errors import PosfeatError
from posfeat_hloc.evaluation.poses import localization_errors
from posfeat_hloc.hloc_plugin import patch_triangulation
from posfeat_hloc.hloc_plugin.installation import load
from posfeat_hloc.localization.localize import localize
from posfeat_hloc.localization.queries import read_queries
from posfeat_hloc.localization.results import read_results, read_true_poses, result_names, write_results
from posfeat_hloc.sfm.database import build_database, describe_database, verify
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.sfm.triangulation import triangulate
from posfeat_hloc.stores.pairs import read_pairs


@dataclass
class Files:
    """What both sides read, and a folder of results for each."""

    dataset: Path
    run: Path
    output: Path
    queries: Path = field(init=False)

    def __post_init__(self) -> None:
        self.data = open_dataset(self.dataset)
        if self.data.intrinsics is not None:
            raise PosfeatError(f"{self.dataset}: this benchmark takes version 1.1, whose model COLMAP reads as it is")
        self.features, self.matches = self.run / "features.h5", self.run / "matches.h5"
        self.database_pairs = next(self.run.glob("pairs-db-covis*.txt"))
        self.query_pairs = next(self.run.glob("pairs-query-top*.txt"))
        self.queries = self.output / "queries.txt"
        self.queries.write_text("".join(path.read_text() for path in self.data.queries.values()))


class Ours:
    """The stages by this package."""

    def __init__(self, files: Files) -> None:
        self.files, self.folder = files, files.output / "ours"
        self.folder.mkdir()

    def fill(self) -> None:
        """Import keypoints and matches into a new database."""
        f = self.files
        pairs = read_pairs(f.database_pairs)
        names = f.data.database_names
        build_database(self.folder / "database.db", f.data.images, f.features, f.matches, names, pairs, progress=False)

    def verify(self) -> None:
        """Estimate the two-view geometries of the database."""
        verify(self.folder / "database.db")

    def triangulate(self) -> None:
        """Triangulate at the poses of the reference model."""
        f = self.files
        triangulate(
            f.data.model, f.data.images, f.features, f.matches, read_pairs(f.database_pairs), self.folder / "sfm",
            progress=False,
        )  # fmt: skip

    def localize(self) -> None:
        """Find the poses of the queries in the triangulated model."""
        f = self.files
        found = localize(
            self.folder / "sfm",
            read_queries(f.queries),
            read_pairs(f.query_pairs),
            f.features,
            f.matches,
            progress=False,
        )
        poses = {name: query.cam_from_world for name, query in found.items() if query.cam_from_world is not None}
        write_results(self.folder / "poses.txt", poses)


class Hloc:
    """The stages by hloc's functions."""

    def __init__(self, files: Files) -> None:
        self.files, self.folder = files, files.output / "hloc"
        self.folder.mkdir()
        self.mapping = load("hloc.reconstruction", "create_empty_db", "import_images", "get_image_ids")
        self.points = load("hloc.triangulation", "import_features", "import_matches", "main")
        self.poses = load("hloc.localize_sfm", "main")
        logging.getLogger("hloc").setLevel(logging.ERROR)

    def fill(self) -> None:
        """Import keypoints and matches into a new database."""
        f, database = self.files, self.folder / "database.db"
        self.mapping.create_empty_db(database)
        self.mapping.import_images(f.data.images, database, pycolmap.CameraMode.AUTO, f.data.database_names)
        ids = self.mapping.get_image_ids(database)
        with pycolmap.Database.open(database) as db:
            self.points.import_features(ids, db, f.features)
            self.points.import_matches(ids, db, f.database_pairs, f.matches)

    def verify(self) -> None:
        """Estimate the two-view geometries of the database."""
        self.points.estimation_and_geometric_verification(self.folder / "database.db", self.files.database_pairs)

    def triangulate(self) -> None:
        """Triangulate at the poses of the reference model."""
        f = self.files
        with patch_triangulation():
            self.points.main(self.folder / "sfm", f.data.model, f.data.images, f.database_pairs, f.features, f.matches)

    def localize(self) -> None:
        """Find the poses of the queries in the triangulated model."""
        f = self.files
        self.poses.main(self.folder / "sfm", f.queries, f.query_pairs, f.features, f.matches, self.folder / "poses.txt")


def describe(side: Ours | Hloc, stage: str, files: Files, truth: Path | None) -> str:
    """What a stage made, in a few words."""
    if stage in ("import", "verify"):
        found = describe_database(side.folder / "database.db")
        return f"{found.pairs} pairs" if stage == "import" else f"{found.verified} pairs, {found.inliers} inliers"
    if stage == "triangulate":
        model = read_model(side.folder / "sfm")
        points, error = model.num_points3D(), model.compute_mean_reprojection_error()
        return f"{points} points, {model.compute_num_observations()} observations, {error:.3f} px"
    poses = read_results(side.folder / "poses.txt")
    if truth is None:
        return f"{len(poses)} poses"
    short = result_names(files.data.query_names)
    known = read_true_poses(truth, files.data.query_names)
    errors = localization_errors({name: poses[short[name]] for name in known if short[name] in poses}, known)
    return f"{len(poses)} poses, median error {np.median(errors.position):.4f} and {np.median(errors.rotation):.3f}°"


def timed(run: Callable[[], None]) -> tuple[float, float]:
    """Seconds by the clock and of the CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Run all stages of both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, metavar="DIR", help="of the run, version 1.1")
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="output of pipelines.aachen")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="default: %(default)s")
    args = parser.parse_args()
    pycolmap.logging.minloglevel = 2
    output = Path(tempfile.mkdtemp())
    try:
        files = Files(args.dataset, args.run, output)
        sides = Ours(files), Hloc(files)
        truth = args.dataset / "ground_truth.txt"
        print("| stage | ours, s | hloc, s | ratio | ours, CPU s | hloc, CPU s | ratio | ours made | hloc made |")
        print("|" + "---|" * 9)
        total = np.zeros((2, 2))
        for stage, method in (("import", "fill"), *((name, name) for name in ("verify", "triangulate", "localize"))):
            times = np.array([[timed(getattr(side, method)) for side in sides] for _ in range(args.repeat)]).min(axis=0)
            made = [describe(side, stage, files, truth if truth.exists() else None) for side in sides]
            print(row(stage, times, made), flush=True)
            total += times * (stage in ("triangulate", "localize"))
        print(row("triangulate and localize", total, ["", ""]))
    except PosfeatError as error:
        sys.exit(str(error))
    finally:
        shutil.rmtree(output)


def row(stage: str, times: np.ndarray, made: list[str]) -> str:
    """One line of the table; ``times (2, 2)``: ours and hloc's, by the clock and of the CPU."""
    cells = [f"{ours:.2f} | {theirs:.2f} | {theirs / ours:.1f}" for ours, theirs in times.T]
    return f"| {stage} | {' | '.join(cells)} | {' | '.join(made)} |"


if __name__ == "__main__":
    main()
