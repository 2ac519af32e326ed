"""Features in an HDF5 file, in hloc's layout.

``<image name>/keypoints (N, 2)`` float32, ``scores (N,)`` float32, ``descriptors (D, N)`` float16, ``image_size
(2,)`` (w, h), and the attribute ``uncertainty`` of the keypoints in pixels. hloc stores keypoints as float16, which
is half a pixel wide above x = 512 and two pixels above 2048; it reads float32 as well.
"""

from __future__ import annotations

import h5py
import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import StoreError
from posfeat_hloc.features import Features
from posfeat_hloc.stores.hdf5 import content_digest, read_text, write_text
from posfeat_hloc.stores.images import ImageStore

_DATASETS = ("keypoints", "descriptors", "image_size")
_SCORES = ("scores", "keypoint_scores")  # files of some hloc extractors use the second name, or have none


class FeatureStore(ImageStore):
    """Read and write the features of many images; see :mod:`posfeat_hloc.stores.hdf5` for how it is opened."""

    def write(
        self,
        name: str,
        features: Features,
        image_size: tuple[int, int],
        uncertainty: float = 1.0,
        source: str = "",
    ) -> None:
        """Store the features of one image, replacing earlier ones; permanent at the next :meth:`commit`.

        Args:
            name: of the image, relative to the image folder.
            features: keypoints in pixels of the original image.
            image_size: (width, height) of the original image.
            uncertainty: standard deviation of the keypoints in pixels of the original image.
            source: what identifies the image file's content, for :meth:`is_current`.
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
            write_text(group, "digest", content_digest(features.keypoints, features.descriptors.astype(np.float16)))
            del group, keypoints  # HDF5 closes them now, not where Ctrl-C may come in between

    @staticmethod
    def _is_complete(group: h5py.Group) -> bool:
        """All datasets are there and agree in the number of points (hloc's crashes leave groups that do not)."""
        if not all(isinstance(group.get(key), h5py.Dataset) for key in _DATASETS):
            return False
        keypoints, descriptors = group["keypoints"], group["descriptors"]
        if keypoints.ndim != 2 or descriptors.ndim != 2 or len(keypoints) != descriptors.shape[1]:
            return False
        return all(group[key].shape == (len(keypoints),) for key in _SCORES if key in group)

    def keypoints(self, name: str) -> NDArray[np.float32]:
        """``(N, 2)`` keypoints of an image."""
        return np.asarray(self._read(name, "keypoints"), np.float32)

    def descriptors(self, name: str) -> NDArray[np.float16]:
        """``(N, D)`` descriptors of an image, in half precision as stored."""
        return np.asarray(self._read(name, "descriptors"), np.float16).T

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

    def _read(self, name: str, dataset: str) -> NDArray[np.generic]:
        self._check(name)
        with self._damage(f"{dataset} of {name!r}"):
            return np.asarray(self.file[name][dataset][()])

    def _check(self, name: str) -> None:
        if name not in self:
            raise StoreError(f"{self.path}: holds no complete features of {name!r}; extract them first")
