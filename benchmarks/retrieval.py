"""Measure global descriptors on several photographed scenes mixed into one database.

    python benchmarks/retrieval.py --scenes scenes/reichstag scenes/lund --models sift/reichstag - --output runs/r

Every image is a query in all others. Three truths: images of the same scene; images that share at least 30 points of a
model of the scene; the 10 images that share most. mAP is the mean over the queries of average precision, recall@10 the
share of the relevant images (at most 10 count) among the first 10.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posfeat_hloc import confs
from posfeat_hloc.retrieval import describe_images, retrieve
from posfeat_hloc.sfm.models import read_model

MIN_SHARED = 30
RANKS = 10


def collect(scenes: list[Path], folder: Path) -> list[str]:
    """Link the images of all scenes into one folder, a subfolder for each."""
    names = []
    for scene in scenes:
        target = folder / scene.name
        if not target.is_symlink():
            folder.mkdir(parents=True, exist_ok=True)
            target.symlink_to((scene / "images").resolve(), target_is_directory=True)
        names += [f"{scene.name}/{p.relative_to(target).as_posix()}" for p in sorted(target.rglob("*")) if p.is_file()]
    return names


def shared_points(scene: str, model: Path, rows: dict[str, int]) -> NDArray[np.int64]:
    """``(N, N)`` numbers of 3D points that two images share."""
    shared = np.zeros((len(rows), len(rows)), np.int64)
    reconstruction = read_model(model)
    for point in reconstruction.points3D.values():
        images = {reconstruction.images[element.image_id].name for element in point.track.elements}
        seen = sorted(rows[f"{scene}/{name}"] for name in images)
        shared[np.ix_(seen, seen)] += 1
    np.fill_diagonal(shared, 0)
    return shared


def score(ranking: NDArray[np.int64], relevant: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean average precision and mean recall@10 over the queries that have relevant images.

    Args:
        ranking: ``(N, M)`` rows of the images, best first.
        relevant: ``(N, N)``.
    """
    precisions, recalls = [], []
    for query, order in enumerate(ranking):
        hits = np.flatnonzero(relevant[query][order])
        if len(hits):
            precisions.append(np.sum((np.arange(len(hits)) + 1) / (hits + 1)) / relevant[query].sum())
            recalls.append((hits < RANKS).sum() / min(RANKS, relevant[query].sum()))
    return float(np.mean(precisions)), float(np.mean(recalls))


def main() -> None:
    """Describe, rank, score; print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, nargs="+", required=True, help="folders with a folder images each")
    parser.add_argument("--models", nargs="+", required=True, help="a COLMAP model for each scene, - for none")
    parser.add_argument("--methods", nargs="+", default=list(confs.retrieval), choices=list(confs.retrieval))
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    if len(args.models) != len(args.scenes):
        parser.error("give as many models as scenes, - for a scene without")
    names = collect(args.scenes, args.output / "images")
    rows = {name: row for row, name in enumerate(names)}
    scenes = np.array([name.split("/")[0] for name in names])
    same = (scenes[:, None] == scenes) & ~np.eye(len(names), dtype=bool)
    shared = sum(
        shared_points(scene.name, Path(model), rows)
        for scene, model in zip(args.scenes, args.models, strict=True)
        if model != "-"
    )
    shared = np.zeros_like(same, dtype=np.int64) + shared
    cut = np.maximum(MIN_SHARED, np.sort(shared, axis=1)[:, -RANKS])
    truths = {
        "same scene": same,
        f"{MIN_SHARED} shared points": shared >= MIN_SHARED,
        "most shared": shared >= cut[:, None],
    }
    for title, truth in truths.items():
        print(f"{title}: {truth.any(axis=1).sum()} queries, {truth.sum(axis=1).mean():.1f} relevant images each")
    print(f"\n| method | {' | '.join(f'{title}: mAP | r@{RANKS}' for title in truths)} | CPU s an image |")
    for method in args.methods:
        conf = confs.retrieval[method]
        path = args.output / f"{conf['output']}.h5"
        start = sum(os.times()[:2])
        report = describe_images(conf, args.output / "images", path, names, "cpu")
        seconds = (sum(os.times()[:2]) - start) / max(1, len(report.extracted))
        pairs = retrieve(path, path, len(names), names, names)
        ranking = np.array([rows[found] for _, found in pairs]).reshape(len(names), len(names) - 1)
        values = " | ".join(f"{a:.3f} | {b:.3f}" for a, b in (score(ranking, truth) for truth in truths.values()))
        print(f"| {method} | {values} | {seconds:.2f} |")


if __name__ == "__main__":
    main()
