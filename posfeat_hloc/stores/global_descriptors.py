"""Global descriptors in an HDF5 file, in hloc's layout: ``<image name>/global_descriptor (D,)``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import StoreError
from posfeat_hloc.stores.hdf5 import CHECKSUM, ImageStore, content_digest, write_text

_KEY = "global_descriptor"
_VOCABULARY = "vocabulary"  # an attribute, because hloc takes every dataset of a file for part of an image


class GlobalDescriptorStore(ImageStore):
    """Read and write one vector for each image; see :mod:`posfeat_hloc.stores.hdf5` for how it is opened."""

    def write(self, name: str, descriptor: NDArray[np.float32], source: str = "") -> None:
        """Store the ``(D,)`` descriptor of an image as float16; permanent at the next :meth:`commit`.

        Args:
            name: of the image, relative to the image folder.
            descriptor: L2-normalised.
            source: what identifies the image file's content, for :meth:`is_current`.
        """
        stored = descriptor.astype(np.float16)
        with self._damage(f"the group of {name!r}", "written"):
            group = self.file.require_group(name)
            if _KEY in group:
                del group[_KEY]
            group.create_dataset(_KEY, data=stored)
            write_text(group, "source", source)
            write_text(group, CHECKSUM, content_digest(stored))
            del group  # HDF5 closes it now, not where Ctrl-C may come in between

    @staticmethod
    def _is_complete(group: h5py.Group) -> bool:
        """The descriptor is all there is."""
        return isinstance(group.get(_KEY), h5py.Dataset)

    @property
    def vocabulary(self) -> NDArray[np.float32] | None:
        """``(K, D)`` visual words that all descriptors of the file were made with, where the method has such."""
        with self._damage("the vocabulary"):
            words = self.file.attrs.get(_VOCABULARY)
            return None if words is None else np.asarray(words, np.float32)

    @vocabulary.setter
    def vocabulary(self, words: NDArray[np.float32]) -> None:
        with self._damage("the vocabulary", "written"):
            self.file.attrs[_VOCABULARY] = words.astype(np.float32)

    def is_comparable(self, other: GlobalDescriptorStore) -> bool:
        """Whether the descriptors of both files have the same configuration; assumed for files of other programs."""
        made0, made1 = self.configuration, other.configuration
        if made0 is None or made1 is None:
            return True
        words0, words1 = self.vocabulary, other.vocabulary
        if words0 is None or words1 is None:
            return made0 == made1 and words0 is words1
        return made0 == made1 and np.array_equal(words0, words1)

    def vocabulary_for(self, configuration: Mapping[str, Any]) -> NDArray[np.float32] | None:
        """The vocabulary, for descriptors that are to be compared with those here.

        Raises:
            StoreError: these were made with another configuration.
        """
        if self.configuration != json.loads(json.dumps(configuration)):
            raise StoreError(
                f"{self.path}: was made with another configuration, so its descriptors cannot be compared; "
                "describe all images with one"
            )
        return self.vocabulary

    def read(self, names: Sequence[str]) -> NDArray[np.float32]:
        """``(N, D)`` descriptors of N images.

        Raises:
            StoreError: some images have no descriptor, or their lengths differ.
        """
        if missing := [name for name in names if name not in self]:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise StoreError(f"{self.path}: holds no global descriptor of {missing[0]!r}{more}; describe these images")
        rows = []
        for name in names:
            with self._damage(f"the global descriptor of {name!r}"):
                rows.append(np.asarray(self.file[name][_KEY][()], np.float32).ravel())
        if different := {len(row) for row in rows} - {len(rows[0])} if rows else set():
            raise StoreError(
                f"{self.path}: global descriptors of {len(rows[0])} and of {different.pop()} dimensions cannot be "
                "compared; describe all images with one configuration"
            )
        return np.stack(rows) if rows else np.zeros((0, 0), np.float32)
