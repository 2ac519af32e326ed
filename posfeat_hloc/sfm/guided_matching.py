"""Match the images of a model by their known geometry: keypoints are compared along epipolar lines only."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from posfeat_hloc.features import Matches
from posfeat_hloc.match_features import COMMIT_SECONDS, Batch, MatchingReport, StoredImages, read_in_order
from posfeat_hloc.matchers.descriptor_cache import CACHE_BYTES
from posfeat_hloc.matchers.guided import Planes, match_in_bands
from posfeat_hloc.runtime.computation import computing_threads, in_order
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.stores import FeatureStore, MatchStore
from posfeat_hloc.stores.pairs import Pair

BAND = 2.0
"""Standard deviations of a keypoint, in either image, from its epipolar line."""

_RAYS_IN_MEMORY = 256


@dataclass(frozen=True)
class View:
    """A posed image, its keypoints as directions.

    Attributes:
        rays: ``(N, 3)`` unit vectors in the world; NaN where a keypoint cannot be undistorted.
        noise: ``(N,)`` radians, a standard deviation of the keypoint.
        centre: ``(3,)`` of the camera.
    """

    rays: NDArray[np.float64]
    noise: NDArray[np.float64]
    centre: NDArray[np.float64]


def view_of(
    model: pycolmap.Reconstruction, image: pycolmap.Image, keypoints: NDArray[np.float32], deviation: float
) -> View:
    """Keypoints ``(N, 2)`` of a posed image, in our pixels and with their standard deviation, as directions."""
    camera = model.cameras[image.camera_id]
    plane = np.asarray(camera.cam_from_img(keypoints.astype(np.float64) + 0.5)).reshape(-1, 2)
    rays = np.pad(plane, ((0, 0), (0, 1)), constant_values=1)
    lengths = np.linalg.norm(rays, axis=1)
    rotation = image.cam_from_world().rotation.matrix()
    noise = camera.cam_from_img_threshold(deviation) / lengths
    return View(rays / lengths[:, None] @ rotation, noise, np.asarray(image.projection_center(), np.float64))


def epipolar_planes(view0: View, view1: View) -> tuple[Planes, Planes] | None:
    """Angles of both images' keypoints around the baseline; None for cameras at the same place.

    A keypoint and its counterpart lie in the same half-plane that the baseline bounds: points are in front of both
    cameras. A deviation of the keypoint turns this half-plane the more, the nearer the keypoint is to the epipole.
    """
    baseline = view1.centre - view0.centre
    length = float(np.linalg.norm(baseline))
    if not length > 0:
        return None
    axis = baseline / length
    across = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    across /= np.linalg.norm(across)
    third = np.cross(axis, across)

    def planes(view: View) -> Planes:
        x, y = view.rays @ across, view.rays @ third
        angles = np.arctan2(y, x)
        tolerances = np.arctan2(BAND * view.noise, np.hypot(x, y))
        return Planes(torch.from_numpy(angles), torch.from_numpy(tolerances))

    return planes(view0), planes(view1)


def match_guided(
    model: pycolmap.Reconstruction,
    pairs: Sequence[Pair],
    features: Path,
    path: Path,
    record: dict[str, Any],
    geometry: str,
    progress: bool = True,
    memory: int = CACHE_BYTES,
) -> MatchingReport:
    """Match pairs of posed images into ``path``; existing matches of these features and this geometry are kept.

    Args:
        model: poses and cameras of all images of the pairs.
        pairs: image names.
        features: feature file.
        path: match file, which may hold other pairs, matched without guidance.
        record: configuration of that file.
        geometry: changes with the model.
        progress: show a bar.
        memory: bytes of descriptors kept in memory.
    """
    images = {image.name: image for image in model.images.values()}
    report = MatchingReport()
    with FeatureStore(features) as source, MatchStore(path, record) as store:
        stored = StoredImages(source, {name for pair in pairs for name in pair}, places=False)
        digests = {name: f"{digest}:{geometry}" for name, digest in stored.digests.items()}
        todo = [pair for pair in sorted(pairs) if not store.is_current(*pair, (digests[pair[0]], digests[pair[1]]))]
        report.reused = len(pairs) - len(todo)

        @lru_cache(maxsize=_RAYS_IN_MEMORY)
        def view(name: str) -> View:
            return view_of(model, images[name], source.keypoints(name)[:, :2], source.uncertainty(name) or 1.0)

        def with_views(batch: Batch) -> tuple[Batch, list[tuple[View, View]]]:
            return batch, [(view(a), view(b)) for (a, b), _, _ in batch]

        threads = torch.get_num_threads()
        batches = map(with_views, read_in_order(todo, stored, stored, memory, 1))
        committed = time.monotonic()
        with (
            computing_threads(threads) as pool,
            Bar(total=len(todo), desc="guided", unit="pair", disable=not progress or not todo) as bar,
            closing(in_order(pool, _work, batches, ahead=2 * threads)) as results,
        ):
            for found in results:
                for pair, matches, count1 in found:
                    store.write(*pair, matches, count1, (digests[pair[0]], digests[pair[1]]))
                    report.matched += 1
                    bar.update()
                if time.monotonic() - committed >= COMMIT_SECONDS:
                    store.commit()
                    committed = time.monotonic()
            store.commit()
    return report


@torch.inference_mode()
def _work(item: tuple[Batch, list[tuple[View, View]]]) -> list[tuple[Pair, Matches, int]]:
    result = []
    for (pair, first, second), views in zip(*item, strict=True):
        planes = epipolar_planes(*views)
        if planes is None:
            result.append((pair, Matches.empty(len(first)), len(second)))
            continue
        descriptors0, descriptors1 = (normalize(torch.from_numpy(d).float(), dim=1) for d in (first, second))
        index, cosine = match_in_bands(descriptors0, descriptors1, *planes)
        scores = torch.where(index >= 0, (1 + cosine) / 2, 0.0)
        result.append((pair, Matches(index.numpy(), scores.numpy()), len(second)))
    return result
