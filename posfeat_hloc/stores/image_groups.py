"""What all stores with a group for each image share: names, which may nest, and what counts as stored."""

from __future__ import annotations

from collections.abc import Iterator

import h5py

from posfeat_hloc.stores.hdf5 import Hdf5Store, read_text


class ImageStore(Hdf5Store):
    """A file with a group ``<image name>`` for each image; a name with ``/`` is nested groups."""

    def is_current(self, name: str, source: str) -> bool:
        """Whether what belongs to this very image file is stored, and complete."""
        with self._damage(f"the source of {name!r}"):
            return name in self and read_text(self.file[name], "source") == source

    def names(self) -> list[str]:
        """Names of all complete images, sorted."""
        with self._damage("the list of images"):
            return sorted(self._walk(self.file, ""))

    def __contains__(self, name: str) -> bool:
        with self._damage(f"the group of {name!r}"):
            item = self.file.get(name)
            return isinstance(item, h5py.Group) and self._is_complete(item)

    def _walk(self, group: h5py.Group, prefix: str) -> Iterator[str]:
        for key, item in group.items():
            if isinstance(item, h5py.Group):
                if self._is_complete(item):
                    yield prefix + key
                yield from self._walk(item, f"{prefix}{key}/")

    @staticmethod
    def _is_complete(group: h5py.Group) -> bool:
        """Whether a group holds all of an image; groups on the way to one do not."""
        raise NotImplementedError
