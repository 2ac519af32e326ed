"""Extract the features of a folder of images into an HDF5 file: decode, resize, extract, store, resume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posfeat_hloc import confs, extractors
from posfeat_hloc.confs import Conf
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors import Extractor
from posfeat_hloc.extractors.extraction import Extracted, ExtractionExecutor, Skipped, extract_batch, extracted
from posfeat_hloc.features import Features, View
from posfeat_hloc.images.decoding import DecodedImage, list_images
from posfeat_hloc.images.high_bit_depth import ranges_of
from posfeat_hloc.images.loader import (
    ImageInputs,
    check_pixels,
    converted_pixels,
    picture_tensor,
    shown,
)
from posfeat_hloc.images.masks import Masks
from posfeat_hloc.runtime.computation import choose_device
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.stores import FeatureStore


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

    def note(self, name: str, text: str) -> None:
        """Add a note about an image."""
        self.notes[name] = "; ".join(filter(None, [self.notes.get(name), text]))

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
        image_list = read_names(Path(image_list), Path(image_dir))
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
    masks: Path | None = None,
    rot90: int = 0,
    cluster: ExtractionExecutor | None = None,
    views: Mapping[str, View] | None = None,
    exif: bool = True,
    title: str = "extract",
) -> ExtractionReport:
    """Extract what is missing or outdated in ``path``; unreadable images are skipped and reported.

    An image counts as done when complete features of this configuration and of these very files (size and
    modification time of image and mask) are stored. A killed run loses the images in hand only.

    Args:
        masks: folder of masks, see :class:`Masks`. All keypoints are detected, those on black pixels dropped, and the
            best ``max_keypoints`` of the others kept, so that a mask costs no keypoint elsewhere.
        rot90: show the images to the extractor after so many quarter turns clockwise; keypoints stay where they are
            in the file.
        cluster: its machines extract, and ``device`` is theirs; this process reads the files and writes the store.
        views: how single images are shown, see :func:`posfeat_hloc.orientation.choose_views`; recorded in the file.
            None takes what is recorded there.
        exif: rotate images by their EXIF tags first.
        title: of the progress bar.

    Raises:
        ClusterError: the cluster lost its machines, or they have another version of this package.
        ConfigurationError: no images, a conf that does not exist, or a folder without a mask of any image.
        StoreError: ``path`` is damaged, in use, or belongs to another configuration.
        WeightsError: the weights cannot be loaded.
    """
    names = list_images(image_dir) if names is None else sorted(set(names))
    target = choose_device(device) if cluster is None else "cpu"
    ranges = ranges_of(image_dir, names)
    inputs = ImageInputs(image_dir, None if masks is None else Masks(masks), rot90, ranges, views or {}, exif)
    limit = None if masks is None else extractors.keypoint_limit(conf["model"])
    model = conf["model"] if limit is None else extractors.with_limit(conf["model"])
    extractor = extractors.create(model, target)
    report = ExtractionReport()
    names = [name for name in names if is_storable(name, report)]
    unmasked = [] if inputs.masks is None else inputs.masks.missing(names)
    with FeatureStore(path, configuration(conf, extractor)) as store:
        if views is None and rot90 == 0:
            inputs = _as_recorded(inputs, names, store)
        if overwrite:
            todo = list(names)
        else:
            todo = [name for name in names if not store.is_current(name, inputs.source(name))]
            report.reused = sorted(set(names) - set(todo))
        found = (
            extracted(extractor, conf["preprocessing"], inputs, todo, target, limit)
            if cluster is None
            else cluster.extract(conf | {"model": model}, inputs, todo, device, extractor.weights_sha256, limit)
        )
        with (
            Bar(total=len(todo), desc=title, unit="image", disable=not progress or not todo) as bar,
            closing(found) as batches,
        ):
            for batch in batches:
                _store(batch, store, report)
                bar.update(len(batch))
    for name in unmasked:
        report.note(name, f"no mask in {masks}, keypoints may be anywhere in the image")
    return report


def _as_recorded(inputs: ImageInputs, names: Sequence[str], store: FeatureStore) -> ImageInputs:
    """Inputs whose images are shown as they were when the features in a file were made of these very files."""
    recorded = replace(inputs, views={name: store.view(name) for name in names})
    current = {name: view for name, view in recorded.views.items() if store.is_current(name, recorded.source(name))}
    return replace(inputs, views=current)


def read_names(path: Path, folder: Path) -> list[str]:
    """Read a list of names of images in a folder, one a line; ConfigurationError when the file cannot be read.

    Lines that start with ``#`` are left out, unless there is an image of that name.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read as a list of image names ({error})") from error
    names = (line.strip() for line in lines if line.strip())
    return [name for name in names if not name.startswith("#") or (folder / name).is_file()]


def extract_pixels(extractor: Extractor, pixels: NDArray[np.uint8], preprocessing: Conf) -> Features:
    """Features of an image in memory, the same as of a file that holds these pixels.

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


def extract_shown(extractor: Extractor, image: DecodedImage, preprocessing: Conf, view: View) -> Features:
    """Features of an image in memory, shown as files are; see :func:`extract_pixels`.

    Returns:
        features with keypoints in the pixels of the image as it is stored.

    Raises:
        ImageError: pixels of another shape or type, or none.
    """
    check_pixels(image.pixels)
    converted = replace(image, pixels=converted_pixels(image.pixels, extractor.grayscale))
    loaded = shown("", "", converted, None, view, preprocessing)
    found = extract_batch(extractor, [loaded], None)[0]
    assert isinstance(found, Extracted)
    return found.features


def configuration(conf: Conf, extractor: Extractor) -> Conf:
    """All that the stored features depend on besides the images; recorded in the file."""
    return {
        "model": _without_execution(conf["model"]),
        "weights": extractor.weights_sha256,
        "preprocessing": conf["preprocessing"],
    }


def _without_execution(model: Conf) -> Conf:
    """Options that decide numbers, of a mixed extractor those of its keypoints, too."""
    kept = {name: value for name, value in model.items() if name not in confs.EXECUTION}
    if "name" in kept:
        kept["name"] = confs.module_of(model)
    return {name: _without_execution(value) if isinstance(value, dict) else value for name, value in kept.items()}


def is_storable(name: str, report: ExtractionReport) -> bool:
    """Whether HDF5 and COLMAP can store a name; one with bytes that are not UTF-8 is skipped."""
    try:
        name.encode()
    except UnicodeEncodeError:
        printable = name.encode(errors="backslashreplace").decode()
        report.skipped[printable] = f"{printable}: the name is not valid Unicode; rename the file"
        return False
    return True


def _store(batch: Sequence[Extracted | Skipped], store: FeatureStore, report: ExtractionReport) -> None:
    for found in batch:
        if isinstance(found, Skipped):
            report.skipped[found.name] = found.reason
            continue
        store.write(found.name, found.features, found.image_size, found.uncertainty, found.source, found.view)
        for note in found.notes:
            report.note(found.name, note)
    store.commit()
    report.extracted += [found.name for found in batch if isinstance(found, Extracted)]
