"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import PIL.Image  # noqa: F401  loaded before pycolmap: the other way round, writing a PNG mixes two zlibs and aborts
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray

settings.register_profile("busy", deadline=None, max_examples=50)  # the machine may be slow, the code is not timed
settings.load_profile("busy")
torch.set_num_threads(1)  # on small tensors threads mostly wait for each other

Texture = Callable[..., NDArray[np.uint8]]


@pytest.fixture(scope="session")
def texture() -> Texture:
    """``texture(seed, width, height)`` renders a grey image with structure at several scales."""

    def render(seed: int = 0, width: int = 160, height: int = 120) -> NDArray[np.uint8]:
        rng = np.random.default_rng(seed)
        picture = np.zeros((height, width))
        for sigma in (1.0, 2.0, 4.0):
            layer = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), sigma)
            picture += layer / layer.std()
        low, high = np.percentile(picture, (1, 99))
        return np.clip((picture - low) / (high - low) * 255, 0, 255).astype(np.uint8)

    return render
