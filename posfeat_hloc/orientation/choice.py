"""How each image of a collection is shown to an extractor: decided once, kept in a file, the same in the next run."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from posfeat_hloc.errors import ConfigurationError, StoreError
from posfeat_hloc.extractors.extraction import ExtractionExecutor
from posfeat_hloc.features import UPRIGHT, View
from posfeat_hloc.images.high_bit_depth import ranges_of
from posfeat_hloc.images.loader import ImageInputs
from posfeat_hloc.images.masks import Masks
from posfeat_hloc.orientation.election import Election
from posfeat_hloc.orientation.looks import Look, Looks, clockwise, write_frame
from posfeat_hloc.runtime.options import OrientationMode
from posfeat_hloc.runtime.resume import hash_of
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.stores.hdf5 import read_text, write_text

MODES = get_args(OrientationMode)
"""``auto``: as the EXIF tag says, and as the images agree on; ``exif``: as the tag says; ``none``: as stored."""

_VOTED = "voted"


@dataclass
class Orientation:
    """How images are shown.

    Attributes:
        views: of images that are not shown as they are.
        exif: whether EXIF tags are followed, first of all.
        looked: small images that were looked at in this run.
        tests: pairs of them that were compared.
    """

    views: dict[str, View] = field(default_factory=dict)
    exif: bool = True
    looked: int = 0
    tests: int = 0

    @property
    def rotated(self) -> dict[str, int]:
        """Image -> degrees clockwise by which it is rotated, for those that are."""
        return {name: view.rotation for name, view in sorted(self.views.items()) if view.rotation}

    @property
    def resized(self) -> dict[str, float]:
        """Image -> size of its second version, for those that have one."""
        return {name: view.second for name, view in sorted(self.views.items()) if view.second}

    def remarks(self) -> dict[str, str]:
        """Lines of a summary; none where all images are shown as they are."""
        found = {}
        if self.rotated:
            counts = sorted(Counter(self.rotated.values()).items())
            found["turned"] = ", ".join(f"{_images(count)} by {turn}°" for turn, count in counts)
            found["turned"] += ": their orientation differs from that of most images (for features only)"
        if self.resized:
            counts_of_sizes = sorted(Counter(self.resized.values()).items())
            text = ", ".join(f"{_images(count)} at {size:g} times the size" for size, count in counts_of_sizes)
            found["second size"] = f"{text}, too: others show the same smaller"
        return found


def _images(count: int) -> str:
    return f"{count} image{'s' if count > 1 else ''}"


def stands_every_turn(model: Mapping[str, Any]) -> bool:
    """Whether a conf's ``model`` entry names rotation-invariant features, as SIFT."""
    descriptor, reading = model.get("descriptor", "rootsift"), model.get("reading", "patches")
    return model["name"] == "sift" and descriptor in ("rootsift", "hardnet", "sosnet") and reading == "patches"


def choose_views(
    mode: str,
    model: Mapping[str, Any],
    images: Path,
    names: Sequence[str],
    path: Path,
    earlier: Path | None = None,
    device: str = "auto",
    masks: Path | None = None,
    cluster: ExtractionExecutor | None = None,
    progress: bool = True,
    resize_max: int | None = None,
) -> Orientation:
    """Choose the rotation of images for an extractor, so that images of the same scene have the same orientation.

    Only evidence turns an image: at small size, it must show what others show, in another turn, more clearly than
    chance or its own turn explain. Of images that lie alike, most stay as they are.

    Args:
        mode: one of :data:`MODES`.
        model: of the conf that features will be extracted with; for those that stand every turn nothing is done.
        images: folder of the images.
        names: in it.
        path: HDF5 file of small features, each in its image's turn, by which the next run knows what was decided.
        earlier: feature file whose turns are where the vote starts, in place of those of ``path``; where it holds all
            images as they are now, they stay.
        device, masks, cluster, progress: see :func:`posfeat_hloc.extract_features.extract`.
        resize_max: longest side that features will be extracted at; that of the files when None.

    Raises:
        ConfigurationError: no such mode, or see :func:`~posfeat_hloc.extract_features.extract`.
        StoreError: ``earlier`` is damaged.
    """
    if mode not in MODES:
        raise ConfigurationError(f"orientation must be {', '.join(MODES)}, not {mode!r}")
    if mode != "auto" or stands_every_turn(model) or len(names) < 2:
        return Orientation(exif=mode != "none")
    names = sorted(set(names))
    inputs = ImageInputs(images, None if masks is None else Masks(masks), ranges=ranges_of(images, names))
    outcome = voted(path) if earlier is None else None
    known = known_views(path if earlier is None else earlier, inputs, names)
    if earlier is not None and len(known) == len(names):
        return Orientation({name: view for name, view in known.items() if view != UPRIGHT})
    if outcome == key_of(inputs, names):
        return Orientation({name: view for name, view in known.items() if view != UPRIGHT})
    folder = path.with_name(f"{path.stem}.partial")
    turned = {name: View(view.rotation) for name, view in known.items() if view.rotation}
    looks = Looks(images, folder, turned, device, masks, cluster=cluster, progress=progress)
    election = Election.of(looks, names, resize_max)
    turns = election.hold()
    second = election.second_sizes()
    views = {name: View((looks.turn(name) + turn) % 360, second.get(name, 0.0)) for name, turn in turns.items()}
    write_small(path, looks, views, inputs, key_of(inputs, names))
    shutil.rmtree(folder, ignore_errors=True)
    shown = {name: view for name, view in views.items() if view != UPRIGHT}
    return Orientation(shown, looked=looks.count, tests=election.tests)


def known_views(path: Path, inputs: ImageInputs, names: Sequence[str]) -> dict[str, View]:
    """How a feature file of an earlier run has those images that have not changed since; none where it is missing."""
    if not path.is_file():
        return {}
    with FeatureStore(path) as store:
        views = {name: store.view(name) for name in names if name in store}
        shown = replace(inputs, views=views)
        return {name: view for name, view in views.items() if store.is_current(name, shown.source(name))}


def key_of(inputs: ImageInputs, names: Sequence[str]) -> str:
    """Changes with the names and files of images."""
    return hash_of([[name, inputs.source(name)] for name in names])


def voted(path: Path) -> str | None:
    """Which images a file of small features is of; None for a damaged or missing one: it is made again."""
    if not path.is_file():
        return None
    try:
        with FeatureStore(path) as store:
            return read_text(store.file, _VOTED)
    except StoreError:
        path.unlink(missing_ok=True)
        return None


def write_small(path: Path, looks: Looks, views: Mapping[str, View], inputs: ImageInputs, key: str) -> None:
    """Store small features of images with their chosen rotations; the file is replaced.

    Args:
        path: HDF5 file.
        looks: small pictures.
        views: of the images that can be read.
        inputs: folders of images and masks.
        key: changes with the images.
    """
    new = looks.folder / "chosen.h5"
    looks.folder.mkdir(parents=True, exist_ok=True)
    new.unlink(missing_ok=True)
    shown = replace(inputs, views=views)
    by_look: dict[Look, list[str]] = {}
    for name, view in views.items():
        by_look.setdefault(Look((view.rotation - looks.turn(name)) % 360), []).append(name)
    looks.look(list(views))
    with FeatureStore(looks.path(Look())) as source:
        configuration = source.configuration
    with FeatureStore(new, configuration or {}) as store:
        for look, names in by_look.items():
            able = looks.look(names, look)
            with FeatureStore(looks.path(look)) as source:
                for name in able:
                    noise = source.uncertainty(name) or 1.0
                    size = source.image_size(name)
                    store.write(name, source.read(name), size, noise, shown.source(name), views[name])
                    write_frame(store, name, clockwise(look.turn) @ looks.frame(name))
            store.commit()
        write_text(store.file, _VOTED, key)
        store.commit()
    new.replace(path)
