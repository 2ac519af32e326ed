"""Which pairs of images a protocol matches."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posfeat_hloc.aachen.layout import Dataset
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.images.loader import fingerprint
from posfeat_hloc.orientation import Orientation
from posfeat_hloc.retrieval import describe_images, retrieve
from posfeat_hloc.runtime.resume import CacheKey
from posfeat_hloc.sfm.pairs import covisibility_pairs
from posfeat_hloc.stores.pairs import Pair, read_pairs, unique_pairs, write_pairs


@dataclass(frozen=True)
class ChosenPairs:
    """Pairs of images that have features, and whose database images have poses.

    Attributes:
        database: of two database images.
        queries: (query, database image).
        asked: number of pairs that the protocol has, more than those two where images are missing.
    """

    database: list[Pair]
    queries: list[Pair]
    asked: int


def choose_pairs(
    dataset: Dataset,
    reference: Path,
    usable: Collection[str],
    output: Path,
    retrieval_conf: dict[str, Any],
    covisible: int,
    retrieved: int,
    query_pairs: Path | None = None,
    device: str = "auto",
    progress: bool = True,
    shown: Orientation | None = None,
) -> ChosenPairs:
    """The challenge's pairs, or pairs by covisibility and by retrieval, whose lists are written to ``output``.

    Args:
        dataset: with a list of pairs for the challenge.
        reference: COLMAP model of the database.
        usable: images with features.
        output: folder of lists and global descriptors.
        retrieval_conf: of the global descriptors.
        covisible, retrieved: database images for a database image and for a query.
        query_pairs: file with pairs of the queries, in place of retrieval.
        device: of the global descriptors.
        progress: show bars.
        shown: how images are shown for their global descriptors, as for their features.

    Raises:
        ConfigurationError: a list cannot be read, or no pairs are left.
    """
    shown = shown or Orientation()
    usable, with_pose, queries = set(usable), set(dataset.database_names), set(dataset.query_names)
    if dataset.pairs is not None:
        given = read_pairs(dataset.pairs)
    else:
        path = output / f"pairs-db-covis{covisible}.txt"
        with CacheKey(path, [model_key(reference), covisible]) as made:
            if not made.is_valid:
                write_pairs(path, unique_pairs(covisibility_pairs(reference, covisible)))
        given = read_pairs(path, dataset.database_names)
        if query_pairs is not None:
            given += read_pairs(query_pairs)
        else:
            path = output / f"{retrieval_conf['output']}.h5"
            described = [  # the database first: a vocabulary is learnt from it alone
                describe_images(
                    retrieval_conf,
                    dataset.images,
                    path,
                    sorted(usable & kind),
                    device,
                    progress=progress,
                    views=shown.views,
                    exif=shown.exif,
                ).names
                for kind in (with_pose, queries)
            ]
            found = retrieve(path, path, retrieved, described[1], described[0])
            write_pairs(output / f"pairs-query-top{retrieved}.txt", found)
            given += found
    between = [pair for pair in given if usable.issuperset(pair) and with_pose.issuperset(pair)]
    ordered = [(a, b) if a in queries else (b, a) for a, b in given if usable.issuperset((a, b))]
    of_queries = [(a, b) for a, b in ordered if a in queries and b in with_pose]
    if not between or not of_queries:
        raise ConfigurationError(
            f"{len(between)} pairs of database images and {len(of_queries)} pairs of queries are left; check that the "
            "lists of pairs and queries and the reference model belong to one version of Aachen"
        )
    return ChosenPairs(between, of_queries, len(given))


def model_key(model: Path) -> list[str]:
    """Changes with the files of a COLMAP model."""
    return [fingerprint(path) for path in sorted(model.iterdir()) if path.suffix in (".bin", ".txt")]
