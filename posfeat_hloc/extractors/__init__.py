"""Feature types: each file is one network with its detection and weights; images in, features out.

A module holds ``Options``, a dataclass whose defaults are the paper's, and ``Extractor(options, device)``. A new
feature type is one new module here and one entry in ``confs.py``.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import fields
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import Tensor

from posfeat_hloc.confs import OWN_PREFIX, RENAMED, current_names
from posfeat_hloc.errors import ConfigurationError, ImageError
from posfeat_hloc.features import Features
from posfeat_hloc.runtime.computation import spin_shortly

ALL_KEYPOINTS = 2**31 - 1
"""A ``max_keypoints`` that no image reaches, which every extractor takes."""

_OVERSHOOT = 0.2
"""By how much a resized image may leave [0, 1]; bicubic interpolation overshoots by up to 0.13."""


class Extractor(Protocol):
    """What every feature type offers.

    One with an attribute ``concurrent = True`` takes less than 1 GB for an image of 2048 px and may be called from
    several threads at once; others extract one image at a time. One with ``spread = True`` chooses among its keypoints
    by :mod:`posfeat_hloc.detection.selection` rather than by their scores alone.
    """

    grayscale: bool
    """Whether images are taken as ``(B, 1, H, W)`` rather than ``(B, 3, H, W)``."""
    detection_noise: float
    """Standard deviation of a keypoint in pixels of the image the extractor sees."""
    weights_sha256: str
    """Hash of the weights in use, empty for methods without weights."""

    def __call__(self, images: Tensor) -> list[Features]:
        """Extract features of ``(B, C, H, W)`` images in [0, 1]; no resizing, no files.

        Raises:
            ImageError: see :func:`check_images`, which every extractor calls first.
        """


def create(model: dict[str, Any], device: str = "cpu") -> Extractor:
    """Build the extractor that a conf's ``model`` entry describes.

    Args:
        model: ``{"name": <module here>, <option>: <value>, ...}``.
        device: a torch device, e.g. ``"cpu"`` or ``"cuda"``.

    Raises:
        ConfigurationError: no such module or option.
        WeightsError: the weights cannot be loaded.
    """
    if torch.device(device).type == "cpu":
        spin_shortly()
    return build(__name__, model, torch.device(device))  # type: ignore[no-any-return]


def check_images(images: Tensor, grayscale: bool) -> None:
    """Raises ImageError for anything but ``(B, 1, H, W)`` grey or ``(B, 3, H, W)`` color images, floats in [0, 1].

    A little more than [0, 1] is let pass, which interpolation gives.
    """
    channels, kind = (1, "grey") if grayscale else (3, "color")
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != channels:
        found = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        cure = "take their mean over the channels" if grayscale else "repeat one channel three times"
        raise ImageError(f"this feature takes {kind} images, a tensor (B, {channels}, H, W), not {found}; {cure}")
    if not images.is_floating_point():
        raise ImageError(f"images must be floats in [0, 1], not {images.dtype}; give images.float() / 255")
    if images.numel() == 0:
        return
    least, most = (float(value) for value in images.aminmax())
    if not (least >= -_OVERSHOOT and most <= 1 + _OVERSHOOT):  # NaN fails both
        raise ImageError(
            f"images must lie in [0, 1], not in [{least:.4g}, {most:.4g}]; divide 8-bit values by 255, "
            "and leave out the normalization by mean and deviation"
        )


def keypoint_limit(model: dict[str, Any]) -> int | None:
    """``max_keypoints`` of a conf's ``model`` entry, its default if the entry has none; None for no limit."""
    if model["name"] == "mixed":
        return keypoint_limit(model["keypoints"])
    default = next(f.default for f in fields(_module(__name__, model["name"]).Options) if f.name == "max_keypoints")
    limit: int | None = model.get("max_keypoints", default)
    return limit


def with_limit(model: dict[str, Any], limit: int = ALL_KEYPOINTS) -> dict[str, Any]:
    """The same ``model`` entry with another ``max_keypoints``; without one, for all keypoints that there are."""
    if model["name"] == "mixed":
        return {**model, "keypoints": with_limit(model["keypoints"], limit)}
    return {**model, "max_keypoints": limit}


def build(package: str, model: dict[str, Any], *args: object) -> Any:
    """Instantiate the one public class of ``package.<model["name"]>`` with its options."""
    if old := sorted(model.keys() & RENAMED.keys()):
        told = ", ".join(f"{name} is now {RENAMED[name]}" for name in old)
        warnings.warn(f"options of {model['name']}: {told}", DeprecationWarning, stacklevel=3)
    options = {key: value for key, value in current_names(model).items() if key != "name"}
    module = _module(package, model["name"])
    known = {field.name for field in fields(module.Options)}
    if unknown := options.keys() - known:
        raise ConfigurationError(
            f"{model['name']} has no option {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}"
        )
    kind = getattr(module, "Extractor", None) or module.Matcher
    return kind(module.Options(**options), *args)


def _module(package: str, name: str) -> ModuleType:
    name = name.removeprefix(OWN_PREFIX)
    try:
        return import_module(f"{package}.{name}")
    except ModuleNotFoundError as error:
        if error.name and not error.name.startswith(package):
            raise
        raise ConfigurationError(f"no {package.split('.')[-1]} module is called {name!r}") from error


class SingleImageExtractor(ABC):
    """The loop over images; a feature type implements the extraction of one image.

    Attributes:
        device: where its networks are.
        min_size: shortest side in pixels of an image that can be extracted; smaller ones have no keypoints.
        dimension: length of a descriptor.
    """

    grayscale = False
    detection_noise = 1.0
    min_size = 1
    dimension: int
    device: torch.device

    def __call__(self, images: Tensor) -> list[Features]:
        """Extract features of ``(B, C, H, W)`` images in [0, 1], one after the other.

        Raises:
            ImageError: see :func:`posfeat_hloc.extractors.check_images`.
        """
        check_images(images, self.grayscale)
        if min(images.shape[-2:]) < self.min_size:
            return [Features.empty(self.dimension) for _ in images]
        with torch.inference_mode():
            return [self._extract(image[None].to(self.device)) for image in images]

    @abstractmethod
    def _extract(self, image: Tensor) -> Features:
        """Features of a ``(1, C, H, W)`` image on the device, in inference mode."""


def features_by_score(keypoints: Tensor, scores: Tensor, descriptors: Tensor, limit: int | None = None) -> Features:
    """``(N, 2)``, ``(N,)`` and ``(N, D)``, the highest scores first; at most ``limit`` of them."""
    order = scores.argsort(descending=True, stable=True)[:limit]
    return Features(*(column[order].float().cpu().numpy() for column in (keypoints, scores, descriptors)))
