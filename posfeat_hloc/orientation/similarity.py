"""Which images are worth comparing, before any features are extracted: similar small images, neighbours by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posfeat_hloc.orientation.votes import SmallFeatures
from posfeat_hloc.retrieval.vlad import k_means, vlad

NEIGHBORS = 2
"""Images on each side, in the order of names."""

_WORDS = 16  # of the vocabulary
_LEARN_FROM = 256  # images
_SAMPLES = 100  # descriptors of each


class Similarity:
    """Small images that are searched for those most similar to another one, by VLAD of their few descriptors.

    Args:
        read: gives the small features of an image.
        names: of the images.
    """

    def __init__(self, read: Callable[[str], SmallFeatures], names: Sequence[str]) -> None:
        self.names = list(names)
        self._rows = {name: row for row, name in enumerate(self.names)}
        self._words = self._learn(read)
        self._found = np.zeros((len(self.names), self._words.numel()), np.float32)
        for row, name in enumerate(self.names):
            self._found[row] = self._describe(read(name))

    def nearest(self, features: SmallFeatures, without: str | None = None) -> list[str]:
        """All images but ``without``, the most similar to a small picture first."""
        order = np.argsort(-(self._found @ self._describe(features)), kind="stable")
        return [self.names[row] for row in order if self.names[row] != without]

    def beside(self, name: str) -> list[str]:
        """Neighbours in the order of names, the nearest first."""
        row = self._rows[name]
        steps = [sign * step for step in range(1, NEIGHBORS + 1) for sign in (1, -1)]
        return [self.names[row + step] for step in steps if 0 <= row + step < len(self.names)]

    def _learn(self, read: Callable[[str], SmallFeatures]) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        parts = []
        for name in self.names[:: -(-len(self.names) // _LEARN_FROM) or 1]:
            local = _tensor(read(name))
            parts.append(local[torch.randperm(len(local), generator=generator)[:_SAMPLES]])
        samples = torch.cat([part for part in parts if len(part)] or [torch.zeros(0, 1)])
        return k_means(samples, min(_WORDS, len(samples))) if len(samples) else samples

    def _describe(self, features: SmallFeatures) -> NDArray[np.float32]:
        local = _tensor(features)
        if not len(local) or not len(self._words):
            return np.zeros(self._words.numel(), np.float32)
        return np.asarray(vlad(local, self._words).numpy(), np.float32)


def _tensor(features: SmallFeatures) -> Tensor:
    return torch.from_numpy(features.descriptors.astype(np.float32))
