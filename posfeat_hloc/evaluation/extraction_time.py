"""Seconds to extract the features of the images of a folder, decoded beforehand (D2D figure 5)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from posfeat_hloc import extractors
from posfeat_hloc.confs import Conf
from posfeat_hloc.errors import ConfigurationError, ImageError, Option
from posfeat_hloc.evaluation.options import TimedOptions
from posfeat_hloc.evaluation.tables import Column, Table
from posfeat_hloc.extractors.choice import FeatureChoice, choose_features
from posfeat_hloc.images.decoding import list_images
from posfeat_hloc.images.loader import ImageInputs, Loaded
from posfeat_hloc.runtime.computation import choose_device


@dataclass(frozen=True)
class _Timed:
    """A feature that is timed."""

    conf: Conf
    extractor: extractors.Extractor
    read: Callable[[str], Loaded]


@dataclass(frozen=True)
class ExtractionTime:
    """What was measured.

    Attributes:
        table: a row for each feature, ``time.csv`` and ``time.tex``; ``seconds.csv`` has all images.
        where: on which device, and how.
        unread: images that cannot be read -> why.
    """

    table: Table
    where: str
    unread: dict[str, str]


def time_extraction(
    images: Path, output: Path, options: TimedOptions | None = None, limit: int | None = None
) -> ExtractionTime:
    """Time all features on all images, image by image, and write the table.

    Args:
        images: folder, searched recursively.
        output: folder of the tables.
        options: features and device.
        limit: the first so many images only.

    Raises:
        PosfeatError: for anything a user can fix.
    """
    options = options or TimedOptions()
    choices = choose_features(options.features, options.weights)
    device = choose_device(options.device)
    timed = {choice.label: _prepare(choice, images, device) for choice in choices}
    names = list_images(images)[:limit]
    each = Table([Column("image"), Column("width"), Column("height"), Column("feature"), Column("seconds"),
                  Column("keypoints")])  # fmt: skip
    seconds: dict[str, list[float]] = {label: [] for label in timed}
    keypoints: dict[str, list[int]] = {label: [] for label in timed}
    unread: dict[str, str] = {}
    for name, loaded in _decoded(timed, names, unread):
        runs = {label: _run(timed[label], image, keypoints[label]) for label, image in loaded.items()}
        if not each.rows:  # warm-up
            for label, run in runs.items():
                run()
                keypoints[label].clear()
        for label, values in take_turns(runs, 1, device).items():
            seconds[label] += values
            height, width = loaded[label].tensor.shape[-2:]
            each.rows.append([name, width, height, label, values[0], keypoints[label][-1]])
    if not each.rows:
        raise ConfigurationError(f"{images}: no image can be read ({'; '.join(unread.values())})")
    table = _summary(each, seconds, keypoints)
    output.mkdir(parents=True, exist_ok=True)
    table.write(output, "time")
    (output / "seconds.csv").write_text(each.as_csv(), encoding="utf-8")
    threads = f"{torch.get_num_threads()} threads" if device == "cpu" else torch.cuda.get_device_name(device)
    where = (
        f"{device}, {threads}; without decoding and resizing, after one untimed image; D2D's figure 5 is a plot only"
    )
    return ExtractionTime(table, where, unread)


def take_turns(runs: Mapping[str, Callable[[], object]], rounds: int, device: str = "cpu") -> dict[str, list[float]]:
    """Seconds of each run in each round; all runs of a round before the next, so that load is shared by all."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            _wait(device)
            start = time.perf_counter()
            run()
            _wait(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _wait(device: str) -> None:
    """GPUs compute in the background."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _prepare(choice: FeatureChoice, images: Path, device: str) -> _Timed:
    if choice.conf is None:
        raise ConfigurationError(
            Option("features"), f": {choice.label} is a feature file, so its extraction cannot be timed"
        )
    extractor = extractors.create(choice.conf["model"], device)
    return _Timed(choice.conf, extractor, ImageInputs(images).reader(choice.conf["preprocessing"], extractor.grayscale))


def _run(timed: _Timed, image: Loaded, counts: list[int]) -> Callable[[], None]:
    return lambda: counts.append(len(timed.extractor(image.tensor[None])[0]))


def _decoded(
    timed: Mapping[str, _Timed], names: list[str], unread: dict[str, str]
) -> Iterator[tuple[str, dict[str, Loaded]]]:
    """Each image as each feature takes it; what cannot be read is noted."""
    for name in names:
        try:
            yield name, {label: one.read(name) for label, one in timed.items()}
        except ImageError as error:
            unread[name] = str(error)


def _summary(each: Table, seconds: Mapping[str, list[float]], keypoints: Mapping[str, list[int]]) -> Table:
    table = Table(
        [Column("feature"), Column("images", "d"), Column("mean size"), Column("seconds", ".3f"),
         Column("median", ".3f"), Column("images/s", ".2f"), Column("keypoints", ".0f")]
    )  # fmt: skip
    for label, values in seconds.items():
        sizes = [(row[1], row[2]) for row in each.rows if row[3] == label]
        width, height = (statistics.fmean(float(size[i] or 0) for size in sizes) for i in (0, 1))
        mean = statistics.fmean(values)
        table.rows.append(
            [label, len(values), f"{width:.0f}x{height:.0f}", mean, statistics.median(values), 1 / mean,
             statistics.fmean(keypoints[label])]
        )  # fmt: skip
    return table
