"""What pictures and masks themselves say about an image with few keypoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posfeat_hloc.errors import PosfeatError
from posfeat_hloc.images.decoding import DecodedImage, read_image, resize
from posfeat_hloc.images.masks import Masks

MASKED = 0.02
"""Part of the image that a mask leaves, below which the mask is why there are few keypoints."""

FLAT = 4.0
"""Grey levels of 255 by which nearly all pixels differ at most from their surroundings in an image that shows
nothing; sensor noise alone gives as much, photographs of bare walls 8 and more."""

_SURROUNDINGS = 31  # pixels
_SIZE = 800  # pixels of the longer side at which contrast is measured


@dataclass(frozen=True)
class Pictures:
    """Where the images of a reconstruction are.

    Attributes:
        images, masks: their folders; None where they are not known, or there are none.
    """

    images: Path | None = None
    masks: Path | None = None

    @classmethod
    def of(cls, command: Mapping[str, Any]) -> Pictures:
        """The folders that the recorded options name."""
        folders = [command.get("images"), command.get("masks")]
        return cls(*(None if folder is None else Path(folder) for folder in folders))

    def mask_share(self, name: str) -> tuple[Path, float] | None:
        """The mask of an image, and which part of the picture it leaves; None where there is none."""
        image = self._read(name)
        if self.masks is None or image is None:
            return None
        masks = Masks(self.masks)
        path = masks.path(name)
        try:
            mask = masks.read(name, image)
        except PosfeatError:
            return None
        return None if path is None or mask is None else (path, float(mask.mean()))

    def contrast(self, name: str) -> float | None:
        """How far grey values, 0 to 255, lie from those around them: what 99 % of the pixels stay below."""
        image = self._read(name)
        if image is None:
            return None
        grey = resize(image.pixels, _SIZE).astype(np.float32)
        around = cv2.blur(grey, (_SURROUNDINGS, _SURROUNDINGS))
        return float(np.percentile(np.abs(grey - around), 99))

    def _read(self, name: str) -> DecodedImage | None:
        if self.images is None:
            return None
        try:
            return read_image(self.images / name, grayscale=True)
        except PosfeatError:
            return None
