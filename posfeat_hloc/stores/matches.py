"""Matches in an HDF5 file, in hloc's layout.

``<a>/<b>/matches0 (N0,)`` and ``matching_scores0 (N0,)`` float16, where ``/`` in the image names a and b is written
``-``. Where two pairs of names would share a key (``a/b-c.jpg`` and ``a-b/c.jpg``), both get a longer key with
a hash, and the short key holds an empty group: hloc then stops instead of reading another pair's matches.

A file whose configuration says ``directed`` holds matches between two collections (queries and a map), where an image
of one may have the name of an image of the other: there (a, b) and (b, a) are different pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5p, h5s, h5t
from numpy.typing import NDArray

from posfeat_hloc.errors import StoreError
from posfeat_hloc.features import Matches
from posfeat_hloc.stores.hdf5 import CHECKSUM, Hdf5Store, content_digest, read_texts

_INT16_MAX = 32767
DIRECTED = "directed"
"""Key of the configuration: whether the images of a pair come from different collections."""

_UNKNOWN = ["?"]  # the owner of matches that other programs wrote
_INTERMEDIATE = h5p.create(h5p.LINK_CREATE)
_INTERMEDIATE.set_create_intermediate_group(True)
_INTERMEDIATE.set_char_encoding(h5t.CSET_UTF8)
_WITHOUT_TIMES = h5p.create(h5p.DATASET_CREATE)
_WITHOUT_TIMES.set_obj_track_times(False)


class MatchStore(Hdf5Store):
    """Read and write the matches of many pairs; see :class:`Hdf5Store` for how it is opened."""

    def __init__(self, path: Path, configuration: Mapping[str, Any] | None = None) -> None:
        super().__init__(path, configuration)
        self._foreign = self.configuration is None
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
            group = h5g.create(self.file.id, key.encode(), lcpl=_INTERMEDIATE)
            _write_dataset(group, b"matches0", indices)
            _write_dataset(group, b"matching_scores0", scores)
            _write_attribute(group, b"names", [name0, name1])
            _write_attribute(group, b"digests", digests)
            _write_attribute(group, CHECKSUM.encode(), content_digest(indices, scores))
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
        keys = (_key(name0, name1), _old_key(name0, name1)) if self._foreign else (_key(name0, name1),)
        for key in keys:
            with self._damage(f"matches {key!r}"):
                if (owner := self._owner(key)) == []:  # several pairs would have this key
                    key = _long_key(name0, name1)
                    owner = self._owner(key)
                if owner == [name0, name1] or (owner == _UNKNOWN and _is_complete(self.file[key])):
                    return key
        return None

    def _owner(self, key: str) -> list[str] | None:
        """The pair that the matches under a key belong to, which we write last; None where there are no matches."""
        group = self.file.get(key)
        if not isinstance(group, h5py.Group):
            return None
        names = read_texts(group, "names")
        return _UNKNOWN if names is None else names

    def _key_to_write(self, name0: str, name1: str) -> str:
        """A key without matches: those of this pair are deleted, those of another one are moved away."""
        short, long = _key(name0, name1), _long_key(name0, name1)
        owner = self._owner(short)
        if owner is None:
            return short
        if owner in (_UNKNOWN, [name0, name1]):
            del self.file[short]
            return short
        if owner:  # both pairs get long keys
            self.file.move(short, _long_key(*owner))
            _write_attribute(h5g.create(self.file.id, short.encode()), b"names", [])
        if long in self.file:
            del self.file[long]
        return long


def _write_dataset(group: h5g.GroupID, name: bytes, values: NDArray[np.generic]) -> None:
    """What ``create_dataset`` does, in half the time: most of a small pair's."""
    kind = h5t.py_create(values.dtype, logical=True)
    dataset = h5d.create(group, name, kind, h5s.create_simple(values.shape), dcpl=_WITHOUT_TIMES)
    dataset.write(h5s.ALL, h5s.ALL, np.ascontiguousarray(values))


def _write_attribute(group: h5g.GroupID, name: bytes, text: str | Sequence[str]) -> None:
    """What ``write_text`` does, in half the time."""
    values = np.array(text.encode() if isinstance(text, str) else [part.encode() for part in text], np.bytes_)
    space = h5s.create_simple(values.shape) if values.shape else h5s.create(h5s.SCALAR)
    attribute = h5a.create(group, name, h5t.py_create(values.dtype), space)
    if values.size:
        attribute.write(values)


def _key(name0: str, name1: str) -> str:
    """hloc's ``names_to_pair``."""
    return "/".join((name0.replace("/", "-"), name1.replace("/", "-")))


def _old_key(name0: str, name1: str) -> str:
    """The naming of older hloc files."""
    return "_".join((name0.replace("/", "-"), name1.replace("/", "-")))


def _long_key(name0: str, name1: str) -> str:
    digest = hashlib.blake2b(f"{name0}\n{name1}".encode(), digest_size=8).hexdigest()
    return f"{_key(name0, name1)}~{digest}"


def _is_complete(group: h5py.Group | h5py.Dataset | None) -> bool:
    """Whether hloc wrote all matches of a pair, and not only one of its datasets before it was killed."""
    if not isinstance(group, h5py.Group):
        return False
    matches, scores = group.get("matches0"), group.get("matching_scores0")
    if not isinstance(matches, h5py.Dataset) or not isinstance(scores, h5py.Dataset):
        return False
    return bool(matches.shape == scores.shape and matches.ndim == 1)
