"""What travels to a worker, and what a worker does with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from posfeat_hloc import extractors, matchers
from posfeat_hloc.errors import ImageError, WeightsError
from posfeat_hloc.extract_features import (
    Extracted,
    Skipped,
    batch_size_on,
    choose_device,
    extracted,
    fingerprint,
)
from posfeat_hloc.extractors import Extractor
from posfeat_hloc.images import read_image
from posfeat_hloc.mapping.pairs import Pair
from posfeat_hloc.match_features import Matched, matched


@dataclass(frozen=True)
class ImageFile:
    """An image file on its way.

    Attributes:
        name: relative to the image folder.
        source: its fingerprint.
        data: all its bytes.
        problem: why it cannot be read, where it cannot.
    """

    name: str
    source: str
    data: bytes = b""
    problem: str = ""


def read_files(image_dir: Path, names: Sequence[str]) -> list[ImageFile]:
    """Read image files as they are, not decoded."""
    return [_read_file(image_dir / name, name) for name in names]


def _read_file(path: Path, name: str) -> ImageFile:
    source = fingerprint(path)
    try:
        return ImageFile(name, source, path.read_bytes())
    except OSError as error:
        try:
            read_image(path)  # says what is wrong in the same words as without a cluster
        except ImageError as problem:
            return ImageFile(name, source, problem=str(problem))
        return ImageFile(name, source, problem=f"{path}: cannot be read ({error.strerror})")


def extract_shard(
    conf: dict[str, Any], device: str, weights_sha256: str, image_dir: str, files: Sequence[ImageFile]
) -> list[Extracted | Skipped]:
    """Extract image files that were sent; through a folder, because decoders take paths.

    Raises:
        WeightsError: the weights of this machine are others than the sender's.
    """
    target = choose_device(device)
    extractor = _extractor(json.dumps(conf["model"]), target)
    if extractor.weights_sha256 != weights_sha256:
        raise WeightsError(
            f"--ray: a worker has other weights of {conf['model']['name']} ({extractor.weights_sha256[:12]}) than this "
            f"machine ({weights_sha256[:12]}); put the same file at the same place on all machines"
        )
    result: list[Extracted | Skipped] = [Skipped(file.name, file.problem) for file in files]
    with TemporaryDirectory() as folder:
        sent = {f"{row}{PurePosixPath(file.name).suffix}": row for row, file in enumerate(files) if not file.problem}
        for short, row in sent.items():
            (Path(folder) / short).write_bytes(files[row].data)
        for batch in extracted(extractor, conf["preprocessing"], Path(folder), list(sent), batch_size_on(target)):
            for found in batch:
                row = sent[found.name]
                file = files[row]
                if isinstance(found, Skipped):
                    here, there = str(Path(folder) / found.name), str(Path(image_dir) / file.name)
                    result[row] = Skipped(file.name, found.reason.replace(here, there))
                else:
                    result[row] = replace(found, name=file.name, source=file.source)
    return result


@lru_cache(maxsize=1)
def _extractor(model: str, device: str) -> Extractor:
    """A worker process serves many shards of one conf."""
    return extractors.create(json.loads(model), device)


def match_shard(model: dict[str, Any], device: str, sent: Sequence[tuple[Pair, Any, Any]]) -> list[Matched]:
    """Match pairs; beside each are the references of its descriptors in Ray's object store."""
    import ray

    references = list(dict.fromkeys(reference for _, *both in sent for reference in both))
    arrays = dict(zip(references, ray.get(references), strict=True))
    of_pair = {pair: (arrays[reference0], arrays[reference1]) for pair, reference0, reference1 in sent}
    found = matched(matchers.create(model), list(of_pair), of_pair.__getitem__, choose_device(device))
    return [result for batch in found for result in batch]
