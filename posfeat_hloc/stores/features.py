"""Features in an HDF5 file, in hloc's layout.

``<image name>/keypoints (N, 2)`` float32, ``scores (N,)`` float32, ``descriptors (D, N)`` float16, ``image_size
(2,)`` (w, h), and the attribute ``uncertainty`` of the keypoints in pixels. hloc stores keypoints as float16, which
is half a pixel wide above x = 512 and two pixels above 2048; it reads float32 as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import h5py
import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import StoreError
from posfeat_hloc.features import UPRIGHT, Features, View
from posfeat_hloc.stores import foreign
from posfeat_hloc.stores.hdf5 import ImageStore, content_digest, read_text, write_text

_SCORES = ("scores", "keypoint_scores")  # files of some hloc extractors use the second name, or have none


class FeatureStore(ImageStore):
    """Read and write the features of many images; see :mod:`posfeat_hloc.stores.hdf5` for how it is opened."""

    _order: bool | None = None  # see _rows_are_points

    def write(
        self,
        name: str,
        features: Features,
        image_size: tuple[int, int],
        uncertainty: float = 1.0,
        source: str = "",
        view: View = UPRIGHT,
    ) -> None:
        """Store the features of one image, replacing earlier ones; permanent at the next :meth:`commit`.

        Args:
            name: of the image, relative to the image folder.
            features: keypoints in pixels of the original image.
            image_size: (width, height) of the original image.
            uncertainty: standard deviation of the keypoints in pixels of the original image.
            source: what identifies the image file's content, for :meth:`is_current`.
            view: how the image was shown to the extractor.
        """
        with self._damage(f"the group of {name!r}", "written"):
            if name in self.file:
                del self.file[name]
            group = self.file.create_group(name)
            keypoints = group.create_dataset("keypoints", data=features.keypoints.astype(np.float32))
            keypoints.attrs["uncertainty"] = uncertainty
            group.create_dataset("scores", data=features.scores.astype(np.float32))
            group.create_dataset("descriptors", data=features.descriptors.T.astype(np.float16))
            group.create_dataset("image_size", data=np.array(image_size, np.int64))
            write_text(group, "source", source)
            if view != UPRIGHT:
                group.attrs["view"] = np.array([view.rotation, view.second])
            write_text(group, "digest", content_digest(features.keypoints, features.descriptors.astype(np.float16)))
            del group, keypoints  # HDF5 closes them now, not where Ctrl-C may come in between

    @staticmethod
    def _is_complete(group: h5py.Group) -> bool:
        """All datasets are there and agree in the number of points (hloc's crashes leave groups that do not)."""
        return not foreign.why_incomplete(group)

    def names(self) -> list[str]:
        """Names of all complete images, sorted; StoreError for a file with an array for each image."""
        with self._damage("the list of images"):
            foreign.check_layout(self.path, self.file)
        return super().names()

    def listed(self) -> list[str]:
        """Names of all groups that hold data, complete or not, sorted."""
        with self._damage("the list of images"):
            foreign.check_layout(self.path, self.file)
            return sorted(_with_data(self.file, ""))

    def why_not(self, name: str) -> str:
        """Problem of the group of an image that does not count as stored; empty without a group."""
        with self._damage(f"the group of {name!r}"):
            foreign.check_layout(self.path, self.file)
            item = self.file.get(name)
            return foreign.why_incomplete(item) if isinstance(item, h5py.Group) else ""

    def require(self, names: Iterable[str], of: str) -> None:
        """Raise StoreError if images are missing, with the problem of the first one.

        Args:
            names: of the images.
            of: follows the number of missing ones in the message, such as ``images of the pairs``.
        """
        if missing := sorted(name for name in names if name not in self):
            why = self.why_not(missing[0])
            raise StoreError(
                f"{self.path}: holds no {'complete ' if why else ''}features of {missing[0]!r} ({len(missing)} {of}); "
                + (f"{why}. Each image needs {foreign.LAYOUT}" if why else "extract them first")
            )

    def keypoints(self, name: str) -> NDArray[np.float32]:
        """``(N, 2)`` keypoints of an image."""
        found = self._read(name, "keypoints")
        if not self.digest(name):
            foreign.check_keypoints(self.path, name, found)
        return np.asarray(found, np.float32).reshape(-1, 2)

    def descriptors(self, name: str) -> NDArray[np.float16]:
        """``(N, D)`` descriptors of an image, in half precision.

        As stored; of a file that another program wrote, turned and normalised where that is needed
        (:mod:`posfeat_hloc.stores.foreign`), and StoreError where they are not finite.
        """
        found = self._read(name, "descriptors")
        if self.digest(name):
            return np.asarray(found, np.float16).T
        return foreign.normalised(self.path, name, found if self._rows_are_points(name) else found.T)

    def _rows_are_points(self, name: str) -> bool:
        """Whether a group has descriptors ``(N, D)``; where N = D, as the first group that tells."""
        with self._damage(f"descriptors of {name!r}"):
            found = foreign.rows_are_points(self.file[name])
            if found is None:
                if self._order is None:
                    told = (foreign.rows_are_points(self.file[other]) for other in self.names())
                    self._order = next((order for order in told if order is not None), False)
                found = self._order
        if found:
            foreign.say_order(self.path)
        return found

    def descriptor_bytes(self, name: str) -> int:
        """Memory that :meth:`descriptors` of an image takes; does not read them."""
        self._check(name)
        with self._damage(f"descriptors of {name!r}"):
            return int(self.file[name]["descriptors"].size) * np.dtype(np.float16).itemsize

    def image_size(self, name: str) -> tuple[int, int]:
        """(width, height) of the image the keypoints refer to."""
        size = self._read(name, "image_size")
        with self._damage(f"image_size of {name!r}"):
            width, height = size.astype(int).tolist()
        return width, height

    def read(self, name: str) -> Features:
        """All features of an image; scores are 1 where the file has none."""
        keypoints = self.keypoints(name)
        group = self.file[name]
        key = next((k for k in _SCORES if k in group), None)
        scores = np.ones(len(keypoints)) if key is None else self._read(name, key)
        return Features(keypoints, scores.astype(np.float32), self.descriptors(name).astype(np.float32))

    def digest(self, name: str) -> str:
        """Identifies the stored features of an image; empty for files that other programs wrote."""
        with self._damage(f"the digest of {name!r}"):
            return (read_text(self.file[name], "digest") or "") if name in self else ""

    def uncertainty(self, name: str) -> float | None:
        """Standard deviation of the keypoints in pixels, where the file has it."""
        self._check(name)
        with self._damage(f"the uncertainty of {name!r}"):
            value = self.file[name]["keypoints"].attrs.get("uncertainty")
            return None if value is None else float(value)

    def view(self, name: str) -> View:
        """Rotation of an image for the extractor; none if the file does not record it."""
        with self._damage(f"the view of {name!r}"):
            found = self.file[name].attrs.get("view") if name in self else None
            return UPRIGHT if found is None else View(int(found[0]), float(found[1]))

    def _read(self, name: str, dataset: str) -> NDArray[np.generic]:
        self._check(name)
        with self._damage(f"{dataset} of {name!r}"):
            return np.asarray(self.file[name][dataset][()])

    def _check(self, name: str) -> None:
        if name not in self:
            why = self.why_not(name)
            raise StoreError(
                f"{self.path}: holds no complete features of {name!r}; "
                + (f"{why}. Each image needs {foreign.LAYOUT}" if why else "extract them first")
            )


def _with_data(group: h5py.Group, prefix: str) -> Iterator[str]:
    if prefix and any(isinstance(item, h5py.Dataset) for item in group.values()):
        yield prefix.removesuffix("/")
        return
    for key, item in group.items():
        if isinstance(item, h5py.Group):
            yield from _with_data(item, f"{prefix}{key}/")
