"""The loop of extraction: decode ahead, batch images of one size, run the network, place keypoints; writes nothing."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from posfeat_hloc.confs import Conf
from posfeat_hloc.detection.selection import allowed, fewer
from posfeat_hloc.errors import ImageError
from posfeat_hloc.extractors import Extractor
from posfeat_hloc.features import UPRIGHT, Features, View
from posfeat_hloc.images.loader import ImageInputs, Loaded, Picture, prefetch
from posfeat_hloc.runtime.computation import computing_threads, in_order
from posfeat_hloc.runtime.memory import keep_large_blocks, return_unused

LARGE_IMAGE = 2048
"""Pixels of the longer side above which a CPU extracts one image at a time, for the sake of memory."""

BORDER = 8.0
"""Pixels along the border of a tilted image without keypoints: the image continues there in streaks."""

TRIM_EVERY = 16
"""Batches after which memory that is not in use goes back to the system."""


@dataclass(frozen=True)
class Extracted:
    """All that is stored of one image.

    Attributes:
        name: relative to the image folder.
        source: :func:`~posfeat_hloc.images.loader.fingerprint` of its file, and of its mask.
        features: keypoints in the pixels that the file stores.
        image_size: (width, height) of the image as stored.
        uncertainty: standard deviation of the keypoints in these pixels.
        notes: what was changed while reading, or that there are few keypoints.
        view: how the image was shown.
    """

    name: str
    source: str
    features: Features
    image_size: tuple[int, int]
    uncertainty: float
    notes: tuple[str, ...] = ()
    view: View = UPRIGHT


@dataclass(frozen=True)
class Skipped:
    """An image without features, and why."""

    name: str
    reason: str


class ExtractionExecutor(Protocol):
    """Where images are extracted, if not by this process: :class:`posfeat_hloc.cluster.Cluster` is one."""

    def extract(
        self,
        conf: Conf,
        inputs: ImageInputs,
        names: Sequence[str],
        device: str,
        weights_sha256: str,
        limit: int | None = None,
    ) -> Generator[list[Extracted | Skipped], None, None]:
        """As :func:`extracted`.

        Args:
            conf: of the features.
            inputs: folders of the images and masks, on this machine.
            names: of the images.
            device: torch device of the workers; ``auto`` takes a GPU where there is one.
            weights_sha256: of the weights that this process has; the workers must have the same.
            limit: of the keypoints that masks leave.
        """


def batch_size_on(device: str) -> int:
    """Images that a network takes at once: a CPU is filled by one."""
    return 8 if device.startswith("cuda") else 1


def images_at_a_time(extractor: Extractor, device: str, preprocessing: Conf) -> int:
    """Images that are extracted side by side on a CPU, each with its share of the cores, where memory allows it."""
    small = 0 < (preprocessing.get("resize_max") or 0) <= LARGE_IMAGE
    if torch.device(device).type != "cpu" or not small or not getattr(extractor, "concurrent", False):
        return 1
    return min(torch.get_num_threads(), 4)


def extracted(
    extractor: Extractor,
    preprocessing: Conf,
    inputs: ImageInputs,
    names: Sequence[str],
    device: str,
    limit: int | None = None,
) -> Generator[list[Extracted | Skipped], None, None]:
    """Extract images, in lists of those that are done at the same time, nearly in order; writes nothing.

    With a limit, the extractor gives all keypoints, and the best that a mask allows are kept.
    """
    keep_large_blocks()
    batch_size, workers = batch_size_on(device), images_at_a_time(extractor, device, preprocessing)
    read = inputs.reader(preprocessing, extractor.grayscale)
    decoders = min(4, os.cpu_count() or 1) if batch_size > 1 else 1

    def work(batch: list[Loaded] | Skipped) -> list[Extracted | Skipped]:
        return [batch] if isinstance(batch, Skipped) else extract_batch(extractor, batch, limit)

    with computing_threads(workers, each=max(1, torch.get_num_threads() // workers)) as pool:
        batches = _equal_sizes(prefetch(read, names, batch_size + workers, decoders), batch_size)
        for number, done in enumerate(in_order(pool, work, batches, ahead=workers), 1):
            yield done
            if number % TRIM_EVERY == 0:
                return_unused()


def _equal_sizes(
    images: Iterator[tuple[str, Loaded | ImageError]], batch_size: int
) -> Iterator[list[Loaded] | Skipped]:
    """Group consecutive images of equal size; unreadable ones pass at once."""
    batch: list[Loaded] = []
    for name, loaded in images:
        if isinstance(loaded, ImageError):
            yield Skipped(name, str(loaded))
            continue
        if batch and (len(batch) == batch_size or batch[0].tensor.shape != loaded.tensor.shape):
            yield batch
            batch = []
        batch.append(loaded)
    if batch:
        yield batch


def extract_batch(extractor: Extractor, batch: list[Loaded], limit: int | None) -> list[Extracted | Skipped]:
    """Extract images whose tensors have one size; with a limit, the best keypoints that their masks allow are kept."""
    result: list[Extracted | Skipped] = []
    found = extractor(torch.stack([loaded.tensor for loaded in batch]))
    for loaded, first in zip(batch, found, strict=True):
        height, width = loaded.tensor.shape[-2:]
        features = _in_file(loaded, loaded.picture, first)
        if loaded.second is not None:
            second = _in_file(loaded, loaded.second, extractor(loaded.second.tensor[None])[0])
            features = _share(features, second)
        features = fewer(
            allowed(features, loaded.mask), limit, height * width if getattr(extractor, "spread", False) else 0
        )
        notes = loaded.image.notes
        if len(features) < 50:
            notes += (f"only {len(features)} keypoints in {width}x{height} pixels",)
        shown = (width, height) if loaded.picture.tilt is None else loaded.picture.tilt.size
        noise = extractor.detection_noise * max(loaded.image.size) / max(shown)
        size = loaded.image.stored_size
        result.append(Extracted(loaded.name, loaded.source, features, size, noise, notes, loaded.view))
    return result


def _in_file(loaded: Loaded, picture: Picture, features: Features) -> Features:
    """Features of an image, with keypoints in the pixels that the file stores."""
    height, width = picture.tensor.shape[-2:]
    if picture.tilt is not None:
        features = replace(features, keypoints=picture.tilt.back(features.keypoints))
        features = features.chosen(picture.tilt.inside(features.keypoints, BORDER))
        width, height = picture.tilt.size
    features = features.scaled((width, height), loaded.image.size)
    return replace(features, keypoints=loaded.image.to_stored(features.keypoints))


def _share(first: Features, second: Features) -> Features:
    """The better half of each, so that a second image takes no more room than one; what one lacks the other has."""
    room = max(len(first), len(second))
    half = room // 2
    parts = fewer(first, max(room - half, room - len(second))), fewer(second, max(half, room - len(first)))
    names = ("keypoints", "scores", "descriptors")
    return Features(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
