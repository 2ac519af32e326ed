"""hloc's base class around an extractor, a matcher or a global descriptor; imported by hloc, never without it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from hloc.utils.base_model import BaseModel
from torch import Tensor

from posfeat_hloc import confs, extractors, matchers
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.retrieval import describe
from posfeat_hloc.stores import GlobalDescriptorStore

MAX_INDEX = 32767
"""hloc writes the indices of matches in 16 bits."""


class ExtractorModel(BaseModel):
    """Any extractor of this package as a model of hloc.

    The conf is that of :func:`posfeat_hloc.extractors.create`. It is built at once, so that missing weights are
    reported before the first image, and again on the device of the first image if that is another one.
    """

    required_inputs = ("image",)

    def _init(self, conf: dict[str, Any]) -> None:
        self._build(torch.device("cpu"))

    def _build(self, device: torch.device) -> None:
        self.device = device
        self.extractor = extractors.create(dict(self.conf), str(device))
        self.detection_noise = self.extractor.detection_noise

    @torch.no_grad()
    def _forward(self, data: dict[str, Tensor]) -> dict[str, list[Tensor]]:
        """Extract features of ``image (B, C, H, W)`` in [0, 1].

        Returns:
            lists of length B: ``keypoints (N, 2)`` float64 in pixels, ``scores (N,)`` and ``descriptors (D, N)``
            float32. hloc rounds float32 to half precision, half a pixel above x = 512; float64 it stores as it is.

        Raises:
            ConfigurationError: color images for a method that takes grey ones, or the other way round.
        """
        image = data["image"]
        _check_channels(image, self.extractor.grayscale, self.conf["name"])
        if image.device != self.device:
            self._build(image.device)
        found = self.extractor(image)
        to = image.device
        return {
            "keypoints": [torch.from_numpy(features.keypoints).double().to(to) for features in found],
            "scores": [torch.from_numpy(features.scores).to(to) for features in found],
            "descriptors": [torch.from_numpy(features.descriptors.T).to(to) for features in found],
        }


class DescriberModel(BaseModel):
    """Any global descriptor of this package as a model of hloc.

    The conf is that of :func:`posfeat_hloc.retrieval.describe.create`; for methods with visual words, ``vocabulary``
    names a folder of images or a file of ours that they come from. Built as :class:`ExtractorModel` is.
    """

    required_inputs = ("image",)

    def _init(self, conf: dict[str, Any]) -> None:
        self.words: Tensor | None = None
        self._build(torch.device("cpu"))
        if self.describer.needs_vocabulary:
            self.words = self.describer.vocabulary = self._vocabulary(conf.get("vocabulary"))

    def _build(self, device: torch.device) -> None:
        self.device = device
        self.describer = describe.create(self._model(), str(device))
        self.describer.vocabulary = self.words

    def _model(self) -> dict[str, Any]:
        return {key: value for key, value in self.conf.items() if key != "vocabulary"}

    def _vocabulary(self, source: str | Path | None) -> Tensor | None:
        """Raises ConfigurationError where nothing is named that visual words can come from."""
        if source is None:
            raise ConfigurationError(
                f"{self.conf['name']} needs visual words: set conf['model']['vocabulary'] to the folder of the "
                "database's images, or to a file of global descriptors that posfeat_hloc wrote"
            )
        if Path(source).is_dir():
            own = (conf for conf in confs.retrieval.values() if conf["model"]["name"] == self.conf["name"])
            return describe.learn_vocabulary(self.describer, next(own)["preprocessing"], Path(source))
        with GlobalDescriptorStore(Path(source)) as store:
            words = store.vocabulary
        if words is None:
            raise ConfigurationError(f"{source}: holds no visual words; posfeat_hloc did not write it for VLAD")
        return torch.from_numpy(words)

    @torch.no_grad()
    def _forward(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """Describe ``image (B, C, H, W)`` in [0, 1] by ``global_descriptor (B, D)``, L2-normalised.

        Raises:
            ConfigurationError: color images for a method that takes grey ones, or images too small to describe.
        """
        image = data["image"]
        _check_channels(image, self.describer.grayscale, self.conf["name"])
        if image.device != self.device:
            self._build(image.device)
        found = [self.describer(one) for one in image]
        if any(one is None for one in found):
            raise ConfigurationError(
                f"{self.conf['name']}: an image of {image.shape[3]}x{image.shape[2]} pixels is too small to describe; "
                "leave it out of image_list"
            )
        return {"global_descriptor": torch.stack([one for one in found if one is not None]).to(image.device)}


class MatcherModel(BaseModel):
    """Any matcher of this package as a model of hloc; the conf is that of :func:`posfeat_hloc.matchers.create`."""

    required_inputs = ("descriptors0", "descriptors1")

    def _init(self, conf: dict[str, Any]) -> None:
        self.matcher = matchers.create(dict(conf))

    @torch.no_grad()
    def _forward(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """Match ``descriptors0 (B, D, N)`` to ``descriptors1 (B, D, M)``.

        Matchers that see places take ``keypoints0 (B, N, 2)``, ``keypoints1`` and the shapes of ``image0 (B, ..., H,
        W)`` and ``image1``, which hloc gives to every matcher.

        Returns:
            ``matches0 (B, N)`` int64, -1 for none, and ``matching_scores0 (B, N)`` float32. Matches to keypoints beyond
            the 32768th are left out, with a warning, because hloc would write them as matches to others.
        """
        descriptors0, descriptors1 = (_described(data, side, self.matcher) for side in (0, 1))
        batch, count = descriptors0.shape[:2]
        matches = torch.full((batch, count), -1, dtype=torch.int64, device=descriptors0.device)
        scores = torch.zeros((batch, count), device=descriptors0.device)
        if count and descriptors1.shape[1]:
            matches, scores = self.matcher(descriptors0, descriptors1)
        beyond = matches > MAX_INDEX
        if beyond.any():
            warnings.warn(
                f"{int(beyond.sum())} matches to keypoints beyond {MAX_INDEX} were left out: hloc stores 16 bits. "
                "Extract fewer keypoints, or match with `posfeat-hloc match`, which stores them all",
                stacklevel=2,
            )
            matches, scores = matches.masked_fill(beyond, -1), scores.masked_fill(beyond, 0)
        return {"matches0": matches, "matching_scores0": scores}


def _described(data: dict[str, Tensor], side: int, matcher: matchers.Matcher) -> Tensor:
    """What a matcher takes of one image, ``(B, N, D)`` or ``(B, N, D + 2)``."""
    descriptors = data[f"descriptors{side}"].float().transpose(1, 2)
    if matchers.trained_for(matcher) is None:
        return descriptors
    height, width = data[f"image{side}"].shape[-2:]
    pairs = zip(descriptors.cpu().numpy(), data[f"keypoints{side}"].cpu().numpy(), strict=True)
    seen = [torch.from_numpy(matchers.with_places(one, keypoints, (width, height))) for one, keypoints in pairs]
    return torch.stack(seen).to(descriptors.device)


def _check_channels(image: Tensor, grayscale: bool, name: str) -> None:
    channels = 1 if grayscale else 3
    if image.shape[1] != channels:
        raise ConfigurationError(
            f"{name} takes images of {channels} channels, not {image.shape[1]}; set grayscale to {grayscale} in the "
            "conf's preprocessing"
        )
