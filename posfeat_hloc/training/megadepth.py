"""Posed pairs from MegaDepth in the layout of CAPS, the training data of PoSFeat.

Layout: ``<scene>/dense*/aligned/`` with ``images/``, ``img_cam.txt`` (a line an image: name w h fx fy cx cy, R row by
row, t) and ``pairs.txt`` (two names a line). Poses are world to camera; intrinsics belong to the pictures as they lie
in ``images/``, 640 x 480. Lines that are empty or begin with ``#`` are skipped.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError, DataError, ImageError
from posfeat_hloc.geometry.rotations import relative_pose
from posfeat_hloc.images.decoding import read_image
from posfeat_hloc.images.resampling import Photograph, fit_calibration, fit_image
from posfeat_hloc.training.posed_pairs import MAX_ROTATION, SIZE, Array, PosedPair, check_limits, told, usable

CHALLENGE_SCENES = ("0008", "0021", "0024", "0063", "1589")
"""Scenes that overlap with the Image Matching Challenge and are left out of training."""


@dataclass(frozen=True)
class MegaDepthOptions:
    """Which pairs are used. Raises ConfigurationError for values that cannot be."""

    size: tuple[int, int] = SIZE
    """(width, height) of the images in pixels."""
    max_rotation: float = MAX_ROTATION
    """Between the two cameras, in degrees."""
    scenes: tuple[str, ...] | None = None
    """Names of the scenes to use; all when None."""
    leave_out: tuple[str, ...] = CHALLENGE_SCENES
    """Names of scenes that are not used even when they are there."""
    max_pairs: int = 5000
    """At most this many pairs of a ``dense*`` folder are used, so that large scenes do not outweigh others."""
    min_baseline: float = 1e-3
    """Pairs with a shorter baseline are left out, as a part of the median distance of the cameras of a ``dense*``
    folder from their middle: the data set holds the same photograph under several names."""
    cache: int = 256
    """Images kept in memory, 0.9 MB each."""

    def __post_init__(self) -> None:
        check_limits(self.size, self.max_rotation)
        if self.max_pairs < 1:
            raise ConfigurationError(f"{self.max_pairs} pairs of a folder: must be positive")


@dataclass(frozen=True)
class DenseFolder:
    """Cameras and pairs of one ``dense*`` folder.

    Attributes:
        folder: the ``aligned`` folder.
        names: of the M images.
        K, R, t: ``(M, 3, 3)``, ``(M, 3, 3)``, ``(M, 3)``; world to camera, ``(0, 0)`` a pixel centre.
        pairs: ``(N, 2)`` indices of images.
    """

    folder: Path
    names: list[str]
    K: Array
    R: Array
    t: Array
    pairs: NDArray[np.int64]


class MegaDepthSource:
    """Pairs of all chosen scenes of a folder.

    Args:
        root: folder of the scenes.
        options: selection of scenes and pairs.

    Raises:
        DataError: there is no scene, a named one is missing, a file is malformed, or no pair is left.
        ImageError: an image of a pair is missing; later, it cannot be read.
    """

    def __init__(self, root: Path, options: MegaDepthOptions) -> None:
        self.root, self.options = root, options
        self.left_out: Counter[str] = Counter()
        self.folders: list[DenseFolder] = []
        scenes = _scenes(root, options)
        for path in (path for scene in scenes for path in sorted(scene.glob("dense*")) if path.is_dir()):
            pairs_file = path / "aligned" / "pairs.txt"
            if not pairs_file.is_file() or not any(_lines(pairs_file)):
                self.left_out["folders without pairs"] += 1
                continue
            dense = self._select(read_dense_folder(path / "aligned"))
            if len(dense.pairs):
                self.folders.append(dense)
        self.starts = np.cumsum([0, *(len(dense.pairs) for dense in self.folders)])
        if not len(self):
            raise DataError(
                f"{root}: no pair to train on in {len(scenes)} scenes ({told(self.left_out) or 'no dense* folders'}); "
                "expected <scene>/dense*/aligned/ with images/, img_cam.txt and pairs.txt"
            )
        self._image = lru_cache(options.cache)(self._read)

    def __getstate__(self) -> dict[str, Any]:
        """Without the cache: each process that prepares batches has its own."""
        return {name: value for name, value in vars(self).items() if name != "_image"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._image = lru_cache(self.options.cache)(self._read)

    def _select(self, dense: DenseFolder) -> DenseFolder:
        i, j = dense.pairs.T
        R, t = relative_pose(dense.R[i], dense.t[i], dense.R[j], dense.t[j])
        centres = -np.einsum("nji,nj->ni", dense.R, dense.t)
        spread = float(np.median(np.linalg.norm(centres - np.median(centres, axis=0), axis=1)))
        good, reasons = usable(R, t, self.options.max_rotation, self.options.min_baseline * spread)
        self.left_out.update(reasons)
        pairs = dense.pairs[good]
        if len(pairs) > self.options.max_pairs:
            # by its name, so that a folder gives the same pairs whichever others are used
            name = dense.folder.parent.relative_to(self.root).as_posix()
            chosen = np.random.default_rng(zlib.crc32(name.encode())).permutation(len(pairs))[: self.options.max_pairs]
            self.left_out["beyond the number for a folder"] += len(pairs) - len(chosen)
            pairs = pairs[np.sort(chosen)]
        return DenseFolder(dense.folder, dense.names, dense.K, dense.R, dense.t, pairs)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def description(self) -> str:
        """One line for the log."""
        left_out = f" (left out: {reasons})" if (reasons := told(self.left_out)) else ""
        return f"{self.root}: {len(self)} pairs of {len(self.folders)} dense folders{left_out}"

    def sample(self, rng: np.random.Generator) -> PosedPair:
        """Draw one of all pairs with equal probability."""
        number = int(rng.integers(len(self)))
        which = int(np.searchsorted(self.starts, number, side="right")) - 1
        dense = self.folders[which]
        i, j = dense.pairs[number - self.starts[which]].tolist()
        R, t = relative_pose(dense.R[i], dense.t[i], dense.R[j], dense.t[j])
        (image0, K0), (image1, K1) = self._image(which, i), self._image(which, j)
        return PosedPair(image0, image1, K0, K1, R, t)

    def _read(self, which: int, i: int) -> tuple[Photograph, Array]:
        """One image at the training size and its intrinsics."""
        dense = self.folders[which]
        path, K = dense.folder / "images" / dense.names[i], dense.K[i]
        pixels = read_image(path, upright=False).pixels
        height, width = pixels.shape[:2]
        if not (0 <= K[0, 2] <= width and 0 <= K[1, 2] <= height):
            raise ImageError(
                f"{path}: is {width}x{height} pixels, but its principal point in img_cam.txt is "
                f"({K[0, 2]:g}, {K[1, 2]:g}); the intrinsics belong to an image of another size"
            )
        fitted = fit_image(pixels, self.options.size)
        fitted.flags.writeable = False  # the cache gives out this very array
        return fitted, fit_calibration(K, (width, height), self.options.size)


def _scenes(root: Path, options: MegaDepthOptions) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the folder that holds the scenes of MegaDepth")
    found = {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")}
    missing = sorted(set(options.scenes or ()) - found.keys())
    if missing:
        raise DataError(f"{root}: has no scenes {', '.join(missing)}; it has {', '.join(list(found)[:8]) or 'none'}")
    wanted = found.keys() if options.scenes is None else set(options.scenes)
    return [path for name, path in found.items() if name in wanted and name not in options.leave_out]


def read_dense_folder(folder: Path) -> DenseFolder:
    """Read the cameras and pairs of an ``aligned`` folder.

    Raises:
        DataError: a file is missing or malformed; the message names the line.
        ImageError: an image of a pair is not in ``images/``.
    """
    names: dict[str, int] = {}
    rows: list[Array] = []
    for where, words in _lines(folder / "img_cam.txt"):
        try:
            if len(words) != 19:
                raise ValueError(f"{len(words)} words instead of 19: name w h fx fy cx cy, R, t")
            values = np.array(words[1:], dtype=np.float64)
            _check_camera(values)
            if words[0] in names:
                raise ValueError(f"{words[0]} has a camera already")
        except ValueError as error:
            raise DataError(f"{where}: not the camera of an image ({error})") from error
        names[words[0]] = len(rows)
        rows.append(values)
    present = {path.name for path in (folder / "images").iterdir()} if (folder / "images").is_dir() else set()
    pairs = []
    for where, words in _lines(folder / "pairs.txt"):
        if len(words) != 2:
            raise DataError(f"{where}: {len(words)} words instead of two names of images")
        for name in words:
            if name not in names:
                raise DataError(f"{where}: {name} has no camera in img_cam.txt")
            if name not in present:
                raise ImageError(f"{folder / 'images' / name}: no such file; {where} names it")
        pairs.append([names[name] for name in words])
    values = np.array(rows).reshape(-1, 18)
    K = np.zeros((len(values), 3, 3))
    K[:, 0, 0], K[:, 1, 1], K[:, 2, 2] = values[:, 2], values[:, 3], 1
    K[:, :2, 2] = values[:, 4:6] - 0.5  # the cameras come from COLMAP, which counts from the border of the image
    R, t = values[:, 6:15].reshape(-1, 3, 3), values[:, 15:]
    return DenseFolder(folder, list(names), K, R, t, np.array(pairs, dtype=np.int64).reshape(-1, 2))


def _check_camera(values: Array) -> None:
    R = values[6:15].reshape(3, 3)
    if not np.isfinite(values).all():
        raise ValueError("a number is not finite")
    if min(values[:4]) <= 0:
        raise ValueError("size and focal lengths must be positive")
    if np.abs(R @ R.T - np.eye(3)).max() > 1e-3 or np.linalg.det(R) < 0:
        raise ValueError("R is not a rotation")


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Place and words of every line that says something."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); every dense* folder needs it") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield f"{path}, line {number}", line.split()
