"""Posed pairs from sources that a word names (``colmap:``, ``megadepth:``, ``synthetic:``), and batches of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from posfeat_hloc.errors import ConfigurationError, DataError, PosfeatError, TrainingError
from posfeat_hloc.geometry.two_view import fundamental_matrix
from posfeat_hloc.training.megadepth import MegaDepthOptions, MegaDepthSource
from posfeat_hloc.training.photometric import change_light, color_jitter
from posfeat_hloc.training.posed_colmap import ColmapPairOptions, ColmapPairSource
from posfeat_hloc.training.posed_pairs import MAX_ROTATION, SIZE, PairSource, PosedPair
from posfeat_hloc.training.synthetic_planes import PlanesOptions, PlanesSource
from posfeat_hloc.training.views import RandomMix

FORMS = (
    "colmap:DIR (with sparse/0 or sparse, and images)",
    "colmap:MODEL,IMAGES",
    "megadepth:DIR (scenes in CAPS's layout)",
    "megadepth:DIR,SCENES (those named in a text file, one a line)",
    "synthetic:DIR (photographs)",
)
"""What a data specification may look like."""


def open_source(
    specification: str,
    size: tuple[int, int] = SIZE,
    max_rotation: float = MAX_ROTATION,
    keep: Callable[[str], bool] | None = None,
) -> PairSource:
    """Open a source of posed pairs with its default options.

    Args:
        specification: one of :data:`FORMS`. Only the first colon separates, so ``colmap:C:\\data`` is a folder.
        size: (width, height) of the images in pixels.
        max_rotation: between the cameras of a pair, in degrees.
        keep: which names to use, for a held-out split: of images (colmap, synthetic) or of scenes (megadepth).

    Raises:
        ConfigurationError: the specification is not of a known form, or a folder does not exist.
        PosfeatError: the data cannot be used, as the sources say.
    """
    kind, colon, rest = specification.partition(":")
    if not colon or not rest or kind not in ("colmap", "megadepth", "synthetic"):
        raise ConfigurationError(f"{specification!r} names no training data; write one of {'; '.join(FORMS)}")
    if kind == "colmap":
        model, images = find_colmap(rest)
        options = ColmapPairOptions(size=size, max_rotation=max_rotation)
        return ColmapPairSource(model, images, options, keep)
    folder, scenes = (Path(rest), None) if kind == "synthetic" or Path(rest).is_dir() else _scene_list(rest)
    if not folder.is_dir():
        raise ConfigurationError(f"{specification!r}: {folder} is not a folder")
    if kind == "megadepth":
        chosen = scenes
        if keep is not None:
            scenes = scenes or tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != "."))
            chosen = tuple(scene for scene in scenes if keep(scene))
            if not chosen:
                raise DataError(f"{folder}: no scene is left for this part of the split")
        return MegaDepthSource(folder, MegaDepthOptions(size=size, max_rotation=max_rotation, scenes=chosen))
    return PlanesSource(folder, PlanesOptions(size=size, max_rotation=max_rotation), keep)


def _scene_list(text: str) -> tuple[Path, tuple[str, ...] | None]:
    """Folder and scenes of ``DIR,SCENES``; no list where the text after no comma is a file."""
    for folder, listed in _splits(text):
        if folder.is_dir() and listed.is_file():
            names = tuple(line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip())
            if not names:
                raise ConfigurationError(f"{listed}: names no scene; write one a line, or leave the file out")
            return folder, names
    return Path(text), None


def find_colmap(text: str) -> tuple[Path, Path]:
    """Folders of the model and of the images, from ``DIR`` or ``MODEL,IMAGES``; folder names may hold commas.

    Raises:
        ConfigurationError: neither reading names folders with a model and with images.
    """
    folder = Path(text)
    if folder.is_dir():
        candidates = [folder / "sparse" / "0", folder / "sparse", folder]
        model = next((path for path in candidates if _is_model(path)), None)
        if model is None:
            raise ConfigurationError(f"{folder}: no COLMAP model in it, in sparse/0 or in sparse")
        if not (folder / "images").is_dir():
            raise ConfigurationError(f"{folder}: has no folder images; write colmap:MODEL,IMAGES when it is elsewhere")
        return model, folder / "images"
    splits = list(_splits(text))
    if not splits:
        raise ConfigurationError(f"{text}: no such folder; write colmap:DIR or colmap:MODEL,IMAGES")
    for model, images in splits:
        if _is_model(model) and images.is_dir():
            return model, images
    model, images = splits[0]
    missing = f"{images} is not a folder" if _is_model(model) else f"{model} holds no COLMAP model"
    raise ConfigurationError(f"colmap:{text}: {missing} (the comma separates the model from the images)")


def _splits(text: str) -> Iterator[tuple[Path, Path]]:
    for i, letter in enumerate(text):
        if letter == "," and text[:i] and text[i + 1 :]:
            yield Path(text[:i]), Path(text[i + 1 :])


def _is_model(folder: Path) -> bool:
    return any((folder / f"cameras.{ending}").is_file() for ending in ("bin", "txt"))


@dataclass(frozen=True)
class Batch:
    """Pairs of images with their epipolar geometry.

    Attributes:
        images0, images1: ``(B, 3, H, W)`` uint8 RGB.
        fundamental: ``(B, 3, 3)`` float32, ``x1^T F x0 = 0`` in pixels.
        points0, points1: for each pair ``(N_b, 2)`` float32 true correspondences; none where the depth is unknown.
    """

    images0: Tensor
    images1: Tensor
    fundamental: Tensor
    points0: list[Tensor]
    points1: list[Tensor]

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device, images as float in [0, 1] and channels last."""

        def image(x: Tensor) -> Tensor:
            x = x.to(device, non_blocking=True).float() / 255
            return x.contiguous(memory_format=torch.channels_last)

        return replace(
            self,
            images0=image(self.images0),
            images1=image(self.images1),
            fundamental=self.fundamental.to(device),
            points0=[p.to(device) for p in self.points0],
            points1=[p.to(device) for p in self.points1],
        )


class PosedDataset(Dataset["Batch | PosfeatError"]):
    """Endless pairs; item i is the same in every run with the same seed, in any process.

    Args:
        source: of posed pairs.
        seed: of the draws and of the colors.
        color: strength of ColorJitter(1, 1, 1, 0.4) on each image by itself, 0 for none (PoSFeat: 1).
        points: true correspondences tried in a pair whose depth is known.
        light: strength of :func:`change_light` on each image by itself, 0 for none.
    """

    def __init__(
        self,
        source: RandomMix[PosedPair],
        seed: int = 0,
        color: float = 1.0,
        points: int = 0,
        light: float = 0.0,
    ) -> None:
        self.source = source
        self.seed = seed
        self.color = color
        self.points = points
        self.light = light

    def __getitem__(self, index: int) -> Batch | PosfeatError:
        """A batch of one pair; an error is handed over, not raised: torch would wrap it in the text of a traceback."""
        try:
            return self.draw(index)
        except PosfeatError as error:
            return error

    def draw(self, index: int) -> Batch:
        """Pair number ``index`` as a batch of one."""
        rng = np.random.default_rng([self.seed, index])
        pair = self.source.sample(rng)
        if self.color > 0:
            c = self.color
            jittered = (color_jitter(image, rng, c, c, c, 0.4 * c) for image in (pair.image0, pair.image1))
            pair = replace(pair, image0=next(jittered), image1=next(jittered))
        if self.light > 0:
            changed = (change_light(image, rng, self.light) for image in (pair.image0, pair.image1))
            pair = replace(pair, image0=next(changed), image1=next(changed))
        return as_batch(pair, self._correspondences(pair, rng))

    def _correspondences(self, pair: PosedPair, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if self.points == 0 or pair.depth0 is None:
            return np.zeros((0, 2)), np.zeros((0, 2))
        height, width = pair.image0.shape[:2]
        points0 = rng.uniform(0, [width - 1, height - 1], size=(self.points, 2))
        points1, seen = pair.transfer(points0)
        return points0[seen], points1[seen]


def as_batch(pair: PosedPair, points: tuple[np.ndarray, np.ndarray] | None = None) -> Batch:
    """A batch of one pair, with true correspondences ``(N, 2)`` in either image where there are some."""
    points0, points1 = points or (np.zeros((0, 2)), np.zeros((0, 2)))
    matrix = fundamental_matrix(pair.K0, pair.K1, pair.R, pair.t)
    return Batch(
        torch.from_numpy(pair.image0.transpose(2, 0, 1).copy())[None],
        torch.from_numpy(pair.image1.transpose(2, 0, 1).copy())[None],
        torch.from_numpy(matrix).float()[None],
        [torch.from_numpy(np.asarray(points0, np.float32))],
        [torch.from_numpy(np.asarray(points1, np.float32))],
    )


def join(items: Sequence[Batch | PosfeatError]) -> Batch | PosfeatError:
    """Several batches as one, or the first error among them."""
    batches = []
    for item in items:
        if isinstance(item, PosfeatError):
            return item
        batches.append(item)
    return Batch(
        torch.cat([b.images0 for b in batches]),
        torch.cat([b.images1 for b in batches]),
        torch.cat([b.fundamental for b in batches]),
        [points for b in batches for points in b.points0],
        [points for b in batches for points in b.points1],
    )


class _Indices:
    """Items of the batches from ``first`` on, of one of ``ranks`` processes."""

    def __init__(self, first: int, last: int, size: int, rank: int, ranks: int) -> None:
        self.first, self.last, self.size, self.rank, self.ranks = first, last, size, rank, ranks

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.first, self.last):
            start = (batch * self.ranks + self.rank) * self.size
            yield list(range(start, start + self.size))


def batches(
    dataset: PosedDataset, first: int, last: int, size: int, workers: int = 0, rank: int = 0, ranks: int = 1
) -> Iterator[Batch]:
    """Batches number first to last - 1 of ``size`` pairs, drawn in ``workers`` processes (0: in this one).

    Of several training processes each gets its own pairs; together they see what one would see with
    batches ``ranks`` times as large.

    Raises:
        PosfeatError: a source has no pair, or an image of it cannot be read.
        TrainingError: a process that draws has died.
    """
    indices = _Indices(first, last, size, rank, ranks)
    loader = DataLoader(dataset, batch_sampler=indices, num_workers=workers, collate_fn=join)  # type: ignore[arg-type]
    try:
        for batch in loader:
            if isinstance(batch, PosfeatError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise TrainingError("a process that prepares batches died, perhaps for lack of memory; use fewer") from error
