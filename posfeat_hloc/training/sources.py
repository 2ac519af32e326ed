"""Training data by one word on the command line: ``colmap:``, ``megadepth:`` and ``synthetic:`` with their folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from posfeat_hloc.errors import ConfigurationError, DataError
from posfeat_hloc.training.megadepth import MegaDepthOptions, MegaDepthSource
from posfeat_hloc.training.posed_colmap import ColmapPairOptions, ColmapPairSource
from posfeat_hloc.training.posed_pairs import MAX_ROTATION, SIZE, PairSource
from posfeat_hloc.training.synthetic_planes import PlanesOptions, PlanesSource

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
        raise ConfigurationError(f"{specification!r}: {folder} is no folder")
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
    missing = f"{images} is no folder" if _is_model(model) else f"{model} holds no COLMAP model"
    raise ConfigurationError(f"colmap:{text}: {missing} (the comma separates the model from the images)")


def _splits(text: str) -> Iterator[tuple[Path, Path]]:
    for i, letter in enumerate(text):
        if letter == "," and text[:i] and text[i + 1 :]:
            yield Path(text[:i]), Path(text[i + 1 :])


def _is_model(folder: Path) -> bool:
    return any((folder / f"cameras.{ending}").is_file() for ending in ("bin", "txt"))
