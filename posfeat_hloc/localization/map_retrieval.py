"""Which images of a map look like a picture in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from posfeat_hloc import weights
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.images.loader import picture_tensor
from posfeat_hloc.retrieval.describe import create
from posfeat_hloc.stores import GlobalDescriptorStore


class MapRetrieval:
    """Global descriptors of a map in memory, and what describes further images alike.

    Args:
        path: written by ``describe_images`` or by ``SfmOptions(pairs="retrieval")``.
        names: images of the map; those without a descriptor are never found.
        device: a torch device.

    Raises:
        ConfigurationError: another program wrote the file, or its method has other weights here.
        StoreError: the file is missing or damaged, or describes none of the images.
    """

    def __init__(self, path: Path, names: Sequence[str], device: str = "cpu") -> None:
        with GlobalDescriptorStore(path) as store:
            recorded, words = store.configuration, store.vocabulary
            self.names = [name for name in names if name in store]
            self._descriptors = store.read(self.names)
        if recorded is None or not self.names:
            raise ConfigurationError(
                f"{path}: was not written by posfeat_hloc or describes no image of the map; describe the map's images"
            )
        self._preprocessing = recorded["preprocessing"]
        known = weights.bundled_name(recorded["weights"])
        self._describer = create(recorded["model"] | ({"weights": known} if known else {}), device)
        if self._describer.weights_sha256 != recorded["weights"]:
            raise ConfigurationError(f"{path}: was made with other weights; describe the map again")
        self._describer.vocabulary = None if words is None else torch.from_numpy(words)

    def nearest(self, pixels: NDArray[np.uint8], count: int) -> list[str]:
        """The ``count`` most similar images of the map, best first; none for an image too small to describe.

        Args:
            pixels: ``(H, W, 3)`` RGB or ``(H, W)`` grey, uint8.
            count: of images.
        """
        found = self._describer(picture_tensor(pixels, self._preprocessing, self._describer.grayscale))
        if found is None:
            return []
        products = self._descriptors @ found.numpy().astype(np.float16).astype(np.float32)  # as files store them
        return [self.names[row] for row in np.argsort(-products, kind="stable")[:count]]
