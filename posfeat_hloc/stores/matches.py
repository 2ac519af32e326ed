"""Matches in an HDF5 file, in hloc's layout.

``<a>/<b>/matches0 (N0,)`` and ``matching_scores0 (N0,)`` float16, where ``/`` in the image names a and b is written
``-``. Where two pairs of names would share a key (``a/b-c.jpg`` and ``a-b/c.jpg``), both get a longer key with
a hash, and the short key holds an empty group: hloc then stops instead of reading another pair's matches.

A file whose configuration says ``directed`` holds matches between two collections (queries and a map), where an image
of one may have the name of an image of the other: there (a, b) and (b, a) are different pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from posfeat_hloc.errors import StoreError
from posfeat_hloc.features import Matches
from posfeat_hloc.stores.hdf5 import CHECKSUM, Hdf5Store, content_digest, read_texts, write_text

_INT16_MAX = 32767
DIRECTED = "directed"
"""Key of the configuration: whether the images of a pair come from different collections."""


class MatchStore(Hdf5Store):
    """Read and write the matches of many pairs; see :class:`Hdf5Store` for how it is opened."""

    def __init__(self, path: Path, configuration: Mapping[str, Any] | None = None) -> None:
        super().__init__(path, configuration)
        self.directed = bool((self.configuration or {}).get(DIRECTED))

    def write(self, name0: str, name1: str, matches: Matches, count1: int, digests: tuple[str, str] = ("", "")) -> None:
        """Store the matches of one pair, replacing those of either order (directed: of this order only).

        Permanent at the next :meth:`commit`.

        Args:
            name0, name1: image names.
            matches: from image 0 to image 1.
            count1: keypoints in image 1; beyond 32767 the indices need int32.
            digests: of the features that were matched, for :meth:`is_current`.
        """
        indices = matches.indices.astype(np.int16 if count1 <= _INT16_MAX else np.int32)
        scores = matches.scores.astype(np.float16)
        other_order = None if self.directed else self._find(name1, name0)
        with self._damage(f"matches of {name0!r} and {name1!r}", "written"):
            if other_order is not None:
                del self.file[other_order]
            key = self._key_to_write(name0, name1)
            if key in self.file:
                del self.file[key]
            group = self.file.create_group(key)
            group.create_dataset("matches0", data=indices)
            group.create_dataset("matching_scores0", data=scores)
            write_text(group, "names", name0, name1)
            write_text(group, "digests", *digests)
            write_text(group, CHECKSUM, content_digest(indices, scores))
            del group  # HDF5 closes it now, not where Ctrl-C may come in between

    def is_current(self, name0: str, name1: str, digests: tuple[str, str]) -> bool:
        """Whether complete matches of exactly these features are stored, in this order of the images."""
        key = self._find(name0, name1)
        with self._damage(f"matches {key!r}"):
            return key is not None and read_texts(self.file[key], "digests") == list(digests)

    def __contains__(self, pair: tuple[str, str]) -> bool:
        name0, name1 = pair
        return self._find(name0, name1) is not None or (not self.directed and self._find(name1, name0) is not None)

    def read(self, name0: str, name1: str, count0: int | None = None) -> Matches:
        """Matches from image 0 to image 1, in whichever order the pair was stored (directed: in this order only).

        Args:
            name0, name1: image names.
            count0: keypoints in image 0; needed only when the pair was stored the other way round, where without it
                the matches end at the last matched keypoint.

        Raises:
            StoreError: the pair is not there, or was written by a version of hloc whose int16 indices overflowed.
        """
        key = self._find(name0, name1)
        if key is not None:
            return self._read(key)
        key = None if self.directed else self._find(name1, name0)
        if key is None:
            raise StoreError(f"{self.path}: holds no matches of {name0!r} and {name1!r}; match this pair first")
        matches = self._read(key)
        needed = int(matches.indices.max(initial=-1)) + 1
        return matches.reversed(max(needed, count0 or 0))

    def _read(self, key: str) -> Matches:
        with self._damage(f"matches {key!r}"):
            indices = np.asarray(self.file[key]["matches0"][()]).astype(np.int64)
            scores = np.asarray(self.file[key]["matching_scores0"][()], np.float32)
        if indices.min(initial=0) < -1:
            raise StoreError(
                f"{self.path}: indices of {key!r} overflowed 16 bits when they were written; match this pair again"
            )
        return Matches(indices, scores)

    def _find(self, name0: str, name1: str) -> str | None:
        """The key under which this pair is stored in this order."""
        for key in (_long_key(name0, name1), _key(name0, name1), _old_key(name0, name1)):
            with self._damage(f"matches {key!r}"):
                group = self.file.get(key)
                if not isinstance(group, h5py.Group) or not _is_complete(group):
                    continue
                names = read_texts(group, "names")
                if names is None or names == [name0, name1]:
                    return key
        return None

    def _key_to_write(self, name0: str, name1: str) -> str:
        short, long = _key(name0, name1), _long_key(name0, name1)
        group = self.file.get(short)
        if group is None:
            return short
        owner = read_texts(group, "names") or []
        if "names" not in group.attrs:
            owner = [name0, name1]
        if owner == [name0, name1]:
            return short
        if owner:  # another pair has the short key: both move to long ones
            self.file.move(short, _long_key(*owner))
            self.file.create_group(short).attrs["names"] = np.array([], dtype=h5py.string_dtype())
        return long


def _key(name0: str, name1: str) -> str:
    """hloc's ``names_to_pair``."""
    return "/".join((name0.replace("/", "-"), name1.replace("/", "-")))


def _old_key(name0: str, name1: str) -> str:
    """The naming of older hloc files."""
    return "_".join((name0.replace("/", "-"), name1.replace("/", "-")))


def _long_key(name0: str, name1: str) -> str:
    digest = hashlib.blake2b(f"{name0}\n{name1}".encode(), digest_size=8).hexdigest()
    return f"{_key(name0, name1)}~{digest}"


def _is_complete(group: h5py.Group) -> bool:
    matches, scores = group.get("matches0"), group.get("matching_scores0")
    if not isinstance(matches, h5py.Dataset) or not isinstance(scores, h5py.Dataset):
        return False
    return bool(matches.shape == scores.shape and matches.ndim == 1)
