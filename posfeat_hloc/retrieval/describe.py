"""Describe each image of a folder by one vector: decode, describe, store, resume."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posfeat_hloc import extractors
from posfeat_hloc.confs import Conf
from posfeat_hloc.errors import ConfigurationError, ImageError
from posfeat_hloc.extract_features import ExtractionReport, is_storable
from posfeat_hloc.features import View
from posfeat_hloc.images.decoding import list_images
from posfeat_hloc.images.high_bit_depth import ranges_of
from posfeat_hloc.images.loader import ImageInputs, Loaded, prefetch
from posfeat_hloc.runtime.computation import choose_device
from posfeat_hloc.runtime.memory import return_large_blocks
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.stores import GlobalDescriptorStore

_LEARN_FROM = 256  # images, evenly spread over the sorted names


class Describer(Protocol):
    """What every method of description offers."""

    grayscale: bool
    """Whether it takes images ``(1, H, W)`` rather than ``(3, H, W)``."""
    weights_sha256: str
    """Hash of the weights in use."""
    vocabulary: Tensor | None
    needs_vocabulary: bool
    """Whether images are described by words of a vocabulary, which must be there first."""
    """``(K, D)`` visual words to describe with; None for methods without."""

    def learn(self, images: Iterable[Tensor]) -> Tensor | None:
        """The vocabulary that suits these images; None, without looking at them, for methods without."""

    def __call__(self, image: Tensor) -> Tensor | None:
        """The L2-normalised vector ``(D,)`` of one image in [0, 1]; None when it is too small."""


def create(model: dict[str, Any], device: str = "cpu") -> Describer:
    """Build what a conf's ``model`` entry describes: ``{"name": <module here>, <option>: <value>, ...}``.

    Raises:
        ConfigurationError: no such module or option, or a package is missing.
        WeightsError: the weights cannot be loaded.
    """
    return extractors.build("posfeat_hloc.retrieval", model, torch.device(device))  # type: ignore[no-any-return]


def describe_images(
    conf: Conf,
    image_dir: Path,
    path: Path,
    names: Sequence[str] | None = None,
    device: str = "auto",
    vocabulary: Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
    rot90: int = 0,
    views: Mapping[str, View] | None = None,
    exif: bool = True,
) -> ExtractionReport:
    """Write the global descriptors that are missing or outdated in ``path``, in hloc's layout.

    Unreadable and tiny images are skipped and reported. A killed run loses the image in hand only. ``vlad`` learns its
    vocabulary from the first images that go into a file and keeps it in that file: images described into it later,
    queries among them, use the same.

    Args:
        conf: one of ``confs.retrieval``, or a dict of that shape.
        image_dir: searched recursively.
        path: HDF5 file.
        names: relative to ``image_dir``; all images when None.
        device: ``auto`` takes a GPU when there is one.
        vocabulary: file of the database's descriptors, for queries that go into a file of their own; only descriptors
            of one vocabulary can be compared.
        overwrite: describe again what is there, with the vocabulary that is there.
        progress: show a bar.
        rot90: describe the images after so many quarter turns clockwise.
        views, exif: as for :func:`posfeat_hloc.extract_features.extract`; second images are not looked at.

    Raises:
        ConfigurationError: no images, a conf that does not exist or lacks a package, or two vocabularies for one file.
        StoreError: a file is damaged, in use, or belongs to another configuration.
        WeightsError: the weights cannot be loaded.
    """
    names = list_images(image_dir) if names is None else sorted(set(names))
    return_large_blocks()
    describer = create(conf["model"], choose_device(device))
    report = ExtractionReport()
    names = [name for name in names if is_storable(name, report)]
    model = {k: v for k, v in conf["model"].items() if k not in ("precision", "weights")}
    recorded = {"model": model, "weights": describer.weights_sha256, "preprocessing": conf["preprocessing"]}
    turns = {name: View(view.rotation) for name, view in (views or {}).items()}
    inputs = ImageInputs(image_dir, None, rot90, ranges_of(image_dir, names), turns, exif)
    read = inputs.reader(conf["preprocessing"], describer.grayscale)
    with GlobalDescriptorStore(path, recorded) as store:
        words = _choose_vocabulary(describer, store, vocabulary, recorded, _pictures(read, names, progress))
        describer.vocabulary = None if words is None else torch.from_numpy(words)
        todo = [name for name in names if overwrite or not store.is_current(name, inputs.source(name))]
        report.reused = sorted(set(names) - set(todo))
        with Bar(total=len(todo), desc="describe", unit="image", disable=not progress or not todo) as bar:
            for name, loaded in prefetch(read, todo):
                descriptor = None if isinstance(loaded, ImageError) else describer(loaded.tensor)
                if isinstance(loaded, ImageError):
                    report.skipped[name] = str(loaded)
                elif descriptor is None:
                    report.skipped[name] = f"{image_dir / name}: too small for a global descriptor"
                else:
                    store.write(name, descriptor.numpy(), loaded.source)
                    store.commit()
                    report.extracted.append(name)
                bar.update()
    return report


def learn_vocabulary(
    describer: Describer, preprocessing: Mapping[str, Any], image_dir: Path, progress: bool = True
) -> Tensor | None:
    """The vocabulary that suits the images of a folder, searched recursively; the same images give the same one.

    Raises:
        ConfigurationError: no images there, or too few.
    """
    names = list_images(image_dir)
    read = ImageInputs(image_dir, ranges=ranges_of(image_dir, names)).reader(dict(preprocessing), describer.grayscale)
    return describer.learn(_pictures(read, names, progress))


def _choose_vocabulary(
    describer: Describer,
    store: GlobalDescriptorStore,
    other: Path | None,
    recorded: Conf,
    pictures: Iterable[Tensor],
) -> NDArray[np.float32] | None:
    """The vocabulary of the store, which it keeps from now on: its own, another file's, or a new one."""
    words = store.vocabulary
    given = None
    if other is not None:
        with GlobalDescriptorStore(other) as database:
            given = database.vocabulary_for(recorded)
    if words is None:
        learnt = describer.learn(pictures) if given is None else None
        words = learnt.numpy() if learnt is not None else given
        if words is not None:
            store.vocabulary = words
            store.commit()
    elif given is not None and not np.array_equal(words, given):
        raise ConfigurationError(
            f"{store.path}: its descriptors were made with another vocabulary than those of {other} and cannot be "
            "compared with them; delete it and run again"
        )
    return words


def _pictures(read: Callable[[str], Loaded], names: Sequence[str], progress: bool) -> Iterator[Tensor]:
    """Some of the images, decoded when they are asked for; unreadable ones are left out."""
    chosen = names[:: -(-len(names) // _LEARN_FROM) or 1]
    for _, loaded in Bar(
        prefetch(read, chosen), desc="vocabulary", unit="image", total=len(chosen), disable=not progress
    ):
        if not isinstance(loaded, ImageError):
            yield loaded.tensor
