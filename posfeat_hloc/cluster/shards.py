"""What travels to a worker, and what a worker does with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from posfeat_hloc import extractors, matchers
from posfeat_hloc.errors import ImageError, Option, WeightsError
from posfeat_hloc.extractors import Extractor
from posfeat_hloc.extractors.extraction import Extracted, Skipped, extracted
from posfeat_hloc.images.decoding import read_image
from posfeat_hloc.images.loader import ImageInputs
from posfeat_hloc.images.masks import Masks
from posfeat_hloc.match_features import Batch, Matched, matched
from posfeat_hloc.runtime.computation import choose_device
from posfeat_hloc.stores.pairs import Pair


@dataclass(frozen=True)
class ImageFile:
    """An image file on its way.

    Attributes:
        name: relative to the image folder.
        source: its fingerprint.
        data: all its bytes.
        mask: path and all bytes of its mask.
        problem: why it cannot be read, where it cannot.
    """

    name: str
    source: str
    data: bytes = b""
    mask: tuple[str, bytes] | None = None
    problem: str = ""


def read_file(inputs: ImageInputs, name: str) -> ImageFile:
    """Read an image file and its mask as they are, not decoded."""
    path, source = inputs.images / name, inputs.source(name)
    mask = None if inputs.masks is None else inputs.masks.path(name)
    try:
        return ImageFile(name, source, path.read_bytes(), None if mask is None else (str(mask), mask.read_bytes()))
    except OSError as error:
        try:
            read_image(path)  # says what is wrong in the same words as without a cluster
        except ImageError as problem:
            return ImageFile(name, source, problem=str(problem))
        return ImageFile(name, source, problem=f"{error.filename}: cannot be read ({error.strerror})")


def extract_shard(
    conf: dict[str, Any],
    device: str,
    weights_sha256: str,
    inputs: ImageInputs,
    limit: int | None,
    files: Sequence[ImageFile],
) -> list[Extracted | Skipped]:
    """Extract image files that were sent; through a folder, because decoders take paths.

    Raises:
        WeightsError: the weights of this machine are others than the sender's.
    """
    target = choose_device(device)
    extractor = _extractor(json.dumps(conf["model"]), target)
    if extractor.weights_sha256 != weights_sha256:
        raise WeightsError(
            Option("ray"),
            f": a worker has other weights of {conf['model']['name']} ({extractor.weights_sha256[:12]}) than this "
            f"machine ({weights_sha256[:12]}); put the same file at the same place on all machines",
        )
    result: list[Extracted | Skipped] = [Skipped(file.name, file.problem) for file in files]
    with TemporaryDirectory() as name:
        sent = {f"{row}{PurePosixPath(file.name).suffix}": file for row, file in enumerate(files) if not file.problem}
        ranges = {short: inputs.ranges[file.name] for short, file in sent.items() if file.name in inputs.ranges}
        views = {short: inputs.views[file.name] for short, file in sent.items() if file.name in inputs.views}
        folders = Path(name) / "images", Masks(Path(name) / "masks")
        here = ImageInputs(*folders, inputs.rot90, ranges, views, inputs.exif)
        paths = _write_files(here, sent, inputs)
        found = extracted(extractor, conf["preprocessing"], here, list(sent), target, limit)
        rows = {file.name: row for row, file in enumerate(files)}
        for item in (item for batch in found for item in batch):
            file = sent[item.name]
            if isinstance(item, Skipped):
                reason = item.reason
                for there, path in paths[item.name].items():
                    reason = reason.replace(there, path)
                result[rows[file.name]] = Skipped(file.name, reason)
            else:
                result[rows[file.name]] = replace(item, name=file.name, source=file.source)
    return result


def _write_files(here: ImageInputs, sent: Mapping[str, ImageFile], inputs: ImageInputs) -> dict[str, dict[str, str]]:
    """Write images and masks under short names; returns for each name the paths here and what the sender calls them."""
    assert here.masks is not None
    here.images.mkdir()
    here.masks.folder.mkdir()
    paths = {}
    for short, file in sent.items():
        (here.images / short).write_bytes(file.data)
        paths[short] = {str(here.images / short): str(inputs.images / file.name)}
        if file.mask is not None:
            there, data = file.mask
            mask = here.masks.folder / f"{short}.png"
            mask.write_bytes(data)
            paths[short] |= {str(mask): there, f"its image {short} ": f"its image {file.name} "}
    return paths


@lru_cache(maxsize=1)
def _extractor(model: str, device: str) -> Extractor:
    """A worker process serves many shards of one conf."""
    return extractors.create(json.loads(model), device)


def match_shard(model: dict[str, Any], device: str, sent: Sequence[tuple[Pair, Any, Any]]) -> list[Matched]:
    """Match pairs; beside each are the references of its descriptors in Ray's object store."""
    import ray

    references = list(dict.fromkeys(reference for _, *both in sent for reference in both))
    arrays = dict(zip(references, ray.get(references), strict=True))
    batches: list[Batch] = [[(pair, arrays[first], arrays[second])] for pair, first, second in sent]
    return list(matched(matchers.create(model), batches, choose_device(device)))
