"""Coarse to fine: a model from the strongest keypoints of each image, then all keypoints at its poses.

Most of the time of a reconstruction goes into pairs that show nothing in common, and into thousands of points that the
poses do not need. A coarse model from a few keypoints, spread over each image, says where the cameras are, and so which
pairs are worth matching with all keypoints, and where in the image each match can be.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import pycolmap

from posfeat_hloc.detection.spread import spread
from posfeat_hloc.sfm.covisibility import model_covisibility_pairs, model_pose_pairs
from posfeat_hloc.sfm.model_views import registered_names
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.stores.pairs import Pair, unique_pairs

NEIGHBORS = 20
"""Images that an image is matched with in the fine stage, at least, where so many see the same."""

MOST_NEIGHBORS = 50
"""And at most, where the coarse stage verified more."""


def is_worthwhile(features: Path, names: Sequence[str], count: int) -> bool:
    """Whether at least half of the images have twice as many keypoints as the coarse stage takes."""
    with FeatureStore(features) as store:
        sizes = [len(store.keypoints(name)) for name in names]
    return count > 0 and 2 * sum(size >= 2 * count for size in sizes) >= len(sizes)


def write_coarse_features(features: Path, coarse: Path, names: Sequence[str], count: int) -> None:
    """Write the ``count`` strongest and best spread keypoints of each image into a feature file of their own.

    What is there already of the same features is kept.
    """
    with FeatureStore(features) as source, FeatureStore(coarse, source.configuration or {}) as store:
        for name in names:
            origin = f"{count} of {source.digest(name)}"
            if store.is_current(name, origin):
                continue
            found = source.read(name)
            kept = spread(found.keypoints, found.scores, count)
            uncertainty = source.uncertainty(name)
            size = source.image_size(name)
            store.write(name, found.chosen(kept), size, 1.0 if uncertainty is None else uncertainty, origin)
        store.commit()


def fine_pairs(models: Sequence[pycolmap.Reconstruction], verified: Iterable[Pair]) -> list[list[Pair]]:
    """Pairs of each model's images that are worth matching with all keypoints.

    Each image is paired with those that share most points with it, and with the nearest ones that look the same way; at
    least :data:`NEIGHBORS` and at most :data:`MOST_NEIGHBORS`, otherwise as many as the coarse stage verified for it.

    Args:
        models: of the coarse stage.
        verified: pairs that the coarse stage verified, in any order.
    """
    partners = Counter(name for pair in verified for name in pair)
    result: list[list[Pair]] = []
    taken: set[Pair] = set()  # models may have images in common
    for model in models:
        result.append([pair for pair in _fine_pairs(model, partners) if pair not in taken])
        taken.update(result[-1])
    return result


def _fine_pairs(model: pycolmap.Reconstruction, partners: Counter[str]) -> list[Pair]:
    sharing, near = model_covisibility_pairs(model, MOST_NEIGHBORS), model_pose_pairs(model, NEIGHBORS // 2)
    taken: dict[str, list[Pair]] = defaultdict(list)
    for pair in (*sharing, *near):
        name = pair[0]
        wanted = min(MOST_NEIGHBORS, max(NEIGHBORS, partners[name]))
        if pair not in taken[name] and len(taken[name]) < wanted:
            taken[name].append(pair)
    return sorted(tuple(sorted(p)) for p in unique_pairs(pair for found in taken.values() for pair in found))  # type: ignore[misc]


def left_over_pairs(pairs: Sequence[Pair], registered: Collection[str]) -> list[Pair]:
    """Pairs of which at least one image is not in the largest model: they are matched with all keypoints, unguided."""
    have = set(registered)
    return [pair for pair in pairs if not have.issuperset(pair)]


def holds_poses(model: pycolmap.Reconstruction) -> bool:
    """Whether some point is seen by three images, without which the fine stage would have no points."""
    return any(point.track.length() > 2 for point in model.points3D.values())


def describe(count: int, models: Sequence[pycolmap.Reconstruction], verified: int, pairs: int) -> str:
    """What the coarse stage found, in a line."""
    images = len(registered_names(models[0])) if models else 0
    return f"{images} images placed by {count} keypoints each, {verified} of {pairs} pairs verified"


def settings() -> dict[str, Any]:
    """What the fine stage depends on besides its inputs."""
    return {"neighbors": NEIGHBORS, "most": MOST_NEIGHBORS}
