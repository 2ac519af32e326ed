"""Extract the features of a folder of images into an HDF5 file: decode, resize, extract, store, resume."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from posfeat_hloc import extractors
from posfeat_hloc.errors import ConfigurationError, ImageError
from posfeat_hloc.extractors import Extractor
from posfeat_hloc.features import Features
from posfeat_hloc.images import DecodedImage, list_images, read_image, resize
from posfeat_hloc.memory import return_large_blocks
from posfeat_hloc.stores import FeatureStore

Conf = dict[str, Any]


@dataclass
class ExtractionReport:
    """What happened to each image.

    Attributes:
        extracted, reused: names of images with features, new or kept from an earlier run.
        skipped: name -> why the image has no features.
        notes: name -> what was changed while reading (alpha, 16 bits, ...), or that it has few keypoints.
    """

    extracted: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """All images with features, sorted."""
        return sorted(self.extracted + self.reused)


def main(
    conf: Conf,
    image_dir: Path,
    export_dir: Path | None = None,
    image_list: Path | Sequence[str] | None = None,
    feature_path: Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
) -> Path:
    """Extract features as ``hloc.extract_features.main`` does, and return the path of the file.

    Args:
        conf: one of ``confs.extractors``, or a dict of that shape.
        image_dir: searched recursively.
        export_dir: folder of the file ``conf["output"] + ".h5"``, unless ``feature_path`` is given.
        image_list: names relative to ``image_dir``, or the path of a text file with a name a line; all images when
            None.
        overwrite: extract again what is there.
        device: ``auto`` takes a GPU when there is one.
    """
    path = feature_path if feature_path is not None else Path(export_dir or ".") / f"{conf['output']}.h5"
    if isinstance(image_list, (str, Path)):
        image_list = read_names(Path(image_list))
    report = extract(conf, Path(image_dir), path, image_list, device, overwrite)
    for name, reason in report.skipped.items():
        print(f"skipped {name}: {reason}")
    return path


def extract(
    conf: Conf,
    image_dir: Path,
    path: Path,
    names: Sequence[str] | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: bool = True,
) -> ExtractionReport:
    """Extract what is missing or outdated in ``path``; unreadable images are skipped and reported.

    An image counts as done when complete features of this configuration and of this very file (size and
    modification time) are stored. A killed run loses the images in hand only.

    Raises:
        ConfigurationError: no images, or a conf that does not exist.
        StoreError: ``path`` is damaged, in use, or belongs to another configuration.
        WeightsError: the weights cannot be loaded.
    """
    names = list_images(image_dir) if names is None else sorted(set(names))
    return_large_blocks()
    target = choose_device(device)
    extractor = extractors.create(conf["model"], target)
    report = ExtractionReport()
    names = [name for name in names if is_storable(name, report)]
    with FeatureStore(path, configuration(conf, extractor)) as store:
        if overwrite:
            todo = list(names)
        else:
            todo = [name for name in names if not store.is_current(name, fingerprint(image_dir / name))]
            report.reused = sorted(set(names) - set(todo))
        batch_size = 8 if target.startswith("cuda") else 1
        with tqdm(total=len(todo), desc="extract", unit="image", disable=not progress or not todo) as bar:
            read = reader(conf["preprocessing"], image_dir, extractor.grayscale)
            decoders = min(4, os.cpu_count() or 1) if batch_size > 1 else 1
            with background() as write:
                for batch in _equal_sizes(prefetch(read, todo, batch_size + 1, decoders), batch_size, report, bar):
                    found = extractor(torch.stack([loaded.tensor for loaded in batch]))
                    write(partial(_write_batch, extractor.detection_noise, batch, found, store, report))
                    bar.update(len(batch))
    return report


def read_names(path: Path) -> list[str]:
    """Read a list of image names, one a line; ConfigurationError when the file cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read as a list of image names ({error})") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def extract_pixels(extractor: Extractor, pixels: NDArray[np.uint8], preprocessing: Conf) -> Features:
    """Features of a picture in memory, the same as of a file that holds these pixels.

    Args:
        extractor: of the conf that ``preprocessing`` belongs to.
        pixels: ``(H, W, 3)`` RGB or ``(H, W)`` grey, uint8.
        preprocessing: entry of a conf.

    Returns:
        features with keypoints in pixels of the picture.

    Raises:
        ImageError: an array of another shape or type, or without pixels.
    """
    tensor = picture_tensor(pixels, preprocessing, extractor.grayscale)
    height, width = tensor.shape[-2:]
    return extractor(tensor[None])[0].scaled((width, height), (pixels.shape[1], pixels.shape[0]))


def picture_tensor(pixels: NDArray[np.uint8], preprocessing: Conf, grayscale: bool) -> torch.Tensor:
    """``(C, H, W)`` in [0, 1], converted and resized as files are, of ``(H, W, 3)`` RGB or ``(H, W)`` grey pixels.

    Raises:
        ImageError: an array of another shape or type, or without pixels.
    """
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or pixels.shape[2:] == (3,)) or pixels.size == 0:
        raise ImageError(f"an image must be (H, W, 3) or (H, W) uint8, not {pixels.shape} {pixels.dtype}")
    picture = Image.fromarray(pixels).convert("L" if grayscale else "RGB")
    return _tensor(np.asarray(picture, np.uint8), preprocessing)


def choose_device(device: str) -> str:
    """``auto`` is ``cuda`` where torch finds a GPU, otherwise ``cpu``; ConfigurationError for one that is not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"device {device!r} cannot be used ({reason}); use auto or cpu") from error
    return device


def configuration(conf: Conf, extractor: Extractor) -> Conf:
    """All that the stored features depend on besides the images; recorded in the file."""
    return {
        "model": _without_execution(conf["model"]),
        "weights": extractor.weights_sha256,
        "preprocessing": conf["preprocessing"],
    }


def _without_execution(model: Conf) -> Conf:
    """Options that decide numbers, of a mixed extractor those of its keypoints, too.

    Precision and batch size change numbers only within their stated tolerance; weights are known by their hash.
    """
    kept = {name: value for name, value in model.items() if name not in ("precision", "batch_size", "weights")}
    return {name: _without_execution(value) if isinstance(value, dict) else value for name, value in kept.items()}


def fingerprint(path: Path) -> str:
    """Changes when the file changes; empty when there is none."""
    try:
        stat = path.stat()
    except OSError:
        return ""
    return f"{stat.st_size}-{stat.st_mtime_ns}"


@dataclass(frozen=True)
class Loaded:
    """An image file, decoded.

    Attributes:
        name: relative to the image folder.
        source: its :func:`fingerprint`.
        image: as stored in the file, upright.
        tensor: ``(C, H, W)`` in [0, 1], resized.
    """

    name: str
    source: str
    image: DecodedImage
    tensor: torch.Tensor


def is_storable(name: str, report: ExtractionReport) -> bool:
    """Whether HDF5 and COLMAP can store a name; one with bytes that are not UTF-8 is skipped."""
    try:
        name.encode()
    except UnicodeEncodeError:
        printable = name.encode(errors="backslashreplace").decode()
        report.skipped[printable] = f"{printable}: the name is not valid Unicode; rename the file"
        return False
    return True


def reader(preprocessing: Conf, image_dir: Path, grayscale: bool) -> Callable[[str], Loaded]:
    """A function that decodes and resizes an image of a folder by its name; it raises ImageError."""

    def read(name: str) -> Loaded:
        source = fingerprint(image_dir / name)
        image = read_image(image_dir / name, grayscale)
        return Loaded(name, source, image, _tensor(image.pixels, preprocessing))

    return read


def _tensor(pixels: NDArray[np.uint8], preprocessing: Conf) -> torch.Tensor:
    """``(C, H, W)`` in [0, 1], resized, of ``(H, W)`` or ``(H, W, 3)`` pixels."""
    pixels = resize(pixels, preprocessing.get("resize_max"))
    channels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return torch.tensor(np.ascontiguousarray(channels)).float() / 255


def prefetch(
    read: Callable[[str], Loaded], names: Sequence[str], ahead: int = 2, decoders: int = 1
) -> Iterator[tuple[str, Loaded | ImageError]]:
    """Decode in the background, a few images ahead of the network; memory holds ``ahead + 1`` of them at most."""

    def attempt(name: str) -> Loaded | ImageError:
        try:
            return read(name)
        except ImageError as error:
            return error

    with ThreadPoolExecutor(max_workers=decoders) as pool:
        waiting = [(name, pool.submit(attempt, name)) for name in names[:ahead]]
        for i, name in enumerate(names):
            if i + ahead < len(names):
                waiting.append((names[i + ahead], pool.submit(attempt, names[i + ahead])))
            yield name, waiting.pop(0)[1].result()


def _equal_sizes(
    images: Iterator[tuple[str, Loaded | ImageError]],
    batch_size: int,
    report: ExtractionReport,
    bar: tqdm,  # type: ignore[type-arg]
) -> Iterator[list[Loaded]]:
    """Group consecutive images of equal size; note the unreadable ones."""
    batch: list[Loaded] = []
    for name, loaded in images:
        if isinstance(loaded, ImageError):
            report.skipped[name] = str(loaded)
            bar.update()
            continue
        if batch and (len(batch) == batch_size or batch[0].tensor.shape != loaded.tensor.shape):
            yield batch
            batch = []
        batch.append(loaded)
    if batch:
        yield batch


@contextmanager
def background() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Do one thing at a time in a thread of its own, while the caller prepares the next.

    Gives a function that hands work over, once the work before it is done; an error of that work is raised there, or at
    the end. Leaving waits for the last.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        last: Future[None] | None = None

        def hand_over(work: Callable[[], None]) -> None:
            nonlocal last
            if last is not None:
                last.result()
            last = pool.submit(work)

        yield hand_over
        if last is not None:
            last.result()


def _write_batch(
    detection_noise: float, batch: list[Loaded], found: list[Features], store: FeatureStore, report: ExtractionReport
) -> None:
    for loaded, features in zip(batch, found, strict=True):
        height, width = loaded.tensor.shape[-2:]
        scale = max(loaded.image.size) / max(width, height)
        features = features.scaled((width, height), loaded.image.size)
        store.write(
            loaded.name,
            replace(features, keypoints=loaded.image.to_stored(features.keypoints)),
            loaded.image.stored_size,
            uncertainty=detection_noise * scale,
            source=loaded.source,
        )
        notes = list(loaded.image.notes)
        if len(features) < 50:
            notes.append(f"only {len(features)} keypoints in {width}x{height} pixels")
        if notes:
            report.notes[loaded.name] = "; ".join(notes)
    store.commit()
    report.extracted.extend(loaded.name for loaded in batch)
