"""Features written by other programs: their problems, and corrections while reading."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import ImageError, StoreError
from posfeat_hloc.images.decoding import read_size
from posfeat_hloc.runtime.progress import Bar

if TYPE_CHECKING:
    from posfeat_hloc.stores.features import FeatureStore

NEEDED = ("keypoints", "descriptors", "image_size")
LAYOUT = "a group for each image with keypoints (N, 2), descriptors (D, N), image_size (width, height), scores (N,)"

_TOLERANCE = 0.01  # half precision moves the norm of 128 numbers by 0.001 at most
_BINARY = 64  # bytes: ORB has 32, AKAZE 61, BRISK and FREAK 64, while descriptors of 8-bit numbers have 128
_OUTSIDE = 2.0  # pixels; keypoints of large scales may lie a little outside


_SAID: set[tuple[Path, str]] = set()


def say_once(path: Path, text: str, kind: str) -> None:
    """Print a note about a file on stderr, once for each kind of note, without breaking a progress bar."""
    if (path, kind) not in _SAID:
        _SAID.add((path, kind))
        Bar.write(f"note: {path}: {text}", file=sys.stderr)


def why_incomplete(group: h5py.Group) -> str:
    """What keeps a group from being features of an image, from names and shapes alone; empty where nothing does."""
    if missing := [key for key in NEEDED if not isinstance(group.get(key), h5py.Dataset)]:
        return f"it has no {' and no '.join(missing)}"
    keypoints, descriptors = group["keypoints"].shape, group["descriptors"].shape
    if len(keypoints) != 2 or len(descriptors) != 2 or keypoints[0] not in descriptors:
        return f"its keypoints {keypoints} and descriptors {descriptors} are not (N, 2) and (D, N)"
    if keypoints[0] and keypoints[1] != 2:
        return f"its keypoints {keypoints} are not (N, 2): keep x and y alone"
    for key in ("scores", "keypoint_scores"):
        if key in group and group[key].shape != keypoints[:1]:
            return f"its {key} {group[key].shape} are not one for each of {keypoints[0]} keypoints"
    return ""


def check_layout(path: Path, file: h5py.Group) -> None:
    """Refuse files with an array for each image, as in the Image Matching Challenge."""
    arrays = next((key for key, item in file.items() if isinstance(item, h5py.Dataset)), None)
    if arrays is not None:
        raise StoreError(
            f"{path}: {arrays!r} is an array, not a group: a file with one array for each image, as in the "
            f"Image Matching Challenge (keypoints.h5, descriptors.h5, ...). Write one file with {LAYOUT}; groups "
            "are named by the image files, with extension"
        )


def rows_are_points(group: h5py.Group) -> bool | None:
    """Whether descriptors are ``(N, D)`` instead of ``(D, N)``; None if N = D."""
    count, shape = len(group["keypoints"]), group["descriptors"].shape
    return None if shape[0] == shape[1] or count == 0 else bool(shape[0] == count)


def check_keypoints(path: Path, name: str, keypoints: NDArray[np.generic]) -> None:
    """StoreError where one is not finite."""
    if wrong := int((~np.isfinite(np.asarray(keypoints, np.float64)).all(axis=1)).sum()):
        raise StoreError(
            f"{path}: {wrong} of {len(keypoints)} keypoints of {name!r} are not finite; remove them from the file"
        )


def normalised(path: Path, name: str, found: NDArray[np.generic]) -> NDArray[np.float16]:
    """Descriptors ``(N, D)`` of any numbers with norm 1, in half precision; those that have it stay as they are.

    A note says once for each file what was done. Rows of zeros stay.

    Raises:
        StoreError: numbers that are not finite, which would keep every pair of this image without a match, or binary
            descriptors, whose distance is Hamming's.
    """
    if found.dtype == np.bool_ or (found.dtype == np.uint8 and found.shape[1] <= _BINARY):
        raise StoreError(
            f"{path}: descriptors of {name!r} are binary ({found.dtype}, {found.shape[1]} each), for "
            "Hamming distance, which is not supported; match them with the program that made them"
        )
    values = np.asarray(found, np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        columns = np.flatnonzero(~finite.all(axis=0))
        raise StoreError(
            f"{path}: descriptors of {name!r} are not finite (NaN or infinite) in {int((~finite.all(axis=1)).sum())} "
            f"of {len(values)} keypoints, in {len(columns)} of {values.shape[1]} numbers, the first of which is "
            f"{columns[0]}; extract them again, or store them in float32 if they are too large for half precision"
        )
    norms = np.linalg.norm(values, axis=1)
    used = norms[norms > 0]
    if not len(used) or np.abs(used - 1).max() <= _TOLERANCE:
        return np.asarray(found, np.float16)
    say_once(
        path,
        f"descriptors are not normalised (in {name!r} norms are {used.min():.3g} to {used.max():.3g}); they are "
        "divided by their norms while they are read",
        "norms",
    )
    return (values / np.where(norms > 0, norms, 1)[:, None]).astype(np.float16)


def say_order(path: Path) -> None:
    """Report once that the descriptors of a file are transposed while reading."""
    say_once(path, "descriptors are stored as (N, D), not as hloc's (D, N); they are read as what they are", "order")


def check_sizes(store: FeatureStore, images: Path, names: Iterable[str]) -> None:
    """Compare features that other programs wrote with the image files: they must be in pixels of these.

    Raises:
        StoreError: ``image_size`` is not the file's, or a twentieth of the keypoints of an image lies outside of it.
    """
    reach = np.zeros(2)  # of the keypoints, as a part of the image's sides
    count = 0
    for name in names:
        if name not in store or store.digest(name):
            continue
        stored = store.image_size(name)
        try:
            size = read_size(images / name)
        except (ImageError, OSError):
            continue  # whoever needs the image says so
        if sorted(stored) != sorted(size):
            raise StoreError(_other_size(store.path, name, stored, size))
        keypoints = store.keypoints(name)
        if not len(keypoints):
            continue
        outside = ((keypoints < -_OUTSIDE) | (keypoints > np.array(stored) - 1 + _OUTSIDE)).any(axis=1)
        if outside.mean() > 0.05:
            raise StoreError(
                f"{store.path}: {int(outside.sum())} of {len(keypoints)} keypoints of {name!r} lie outside its "
                f"{stored[0]} x {stored[1]} pixels, up to ({keypoints[:, 0].max():.0f}, {keypoints[:, 1].max():.0f}); "
                "keypoints are (x, y) in pixels of the image file: undo the scaling, or swap the columns"
            )
        reach = np.maximum(reach, (keypoints.max(axis=0) + 0.5) / stored)
        count += len(keypoints)
    if count >= 1000 and reach.max() < 0.6:
        raise StoreError(
            f"{store.path}: all {count} keypoints lie in the first {100 * reach[0]:.0f} % of the width and "
            f"{100 * reach[1]:.0f} % of the height of their images: they were found in smaller images; multiply "
            "keypoints + 0.5 by the size of the file over that of the smaller image, and subtract 0.5"
        )


def _other_size(path: Path, name: str, stored: tuple[int, int], size: tuple[int, int]) -> str:
    scale = size[0] / stored[0]
    return (
        f"{path}: features of {name!r} are of an image of {stored[0]} x {stored[1]} pixels, but the file has "
        f"{size[0]} x {size[1]}; keypoints must be in pixels of the file: (keypoints + 0.5) * "
        f"{scale:.4g} - 0.5 where they were found in the smaller image, with image_size ({size[0]}, {size[1]})"
    )
