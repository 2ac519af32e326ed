"""Aachen Day-Night, from the folder of the data set to the file for visuallocalization.net, or what it would take."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from posfeat_hloc import extractors, matchers
from posfeat_hloc.aachen.layout import Dataset, open_dataset
from posfeat_hloc.aachen.options import AachenOptions
from posfeat_hloc.aachen.protocols import COVISIBLE, POSES, Configured, run_protocol
from posfeat_hloc.aachen.report import Report
from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.extractors import Extractor
from posfeat_hloc.features import Features
from posfeat_hloc.images.decoding import read_image
from posfeat_hloc.images.resampling import resize
from posfeat_hloc.localization.options import PoseOptions
from posfeat_hloc.localization.results import read_true_poses
from posfeat_hloc.runtime.colmap_log import send_colmap_log_to
from posfeat_hloc.runtime.computation import choose_device
from posfeat_hloc.runtime.options import recorded
from posfeat_hloc.runtime.output import only_writer, write_atomically
from posfeat_hloc.runtime.reporter import QUIET, Reporter, reporting
from posfeat_hloc.stores.pairs import read_pairs

# seconds on one core of a desktop computer, where nothing is tried
_CONVERT = 0.1  # a megabyte of an NVM file
_DESCRIBE = 0.3  # a global descriptor
_TRIANGULATE = 0.05  # an image pair: import, verification, points
_LOCALIZE = 0.5  # a query

_MATCH_BYTES = 4  # of a keypoint in a match file: index and score
_MAP_BYTES = 60  # of a keypoint in the map: its database and its model
_GLOBAL_BYTES = 16_000  # of a global descriptor: at most 4096 numbers


@dataclass(frozen=True)
class Step:
    """One stage.

    Attributes:
        name: of the stage.
        count, unit: what it works on.
        each: seconds for one of them.
        measured: whether ``each`` was tried here or is assumed.
        bytes: on disk.
    """

    name: str
    count: int
    unit: str
    each: float
    measured: bool
    bytes: float

    @property
    def seconds(self) -> float:
        """Of the whole stage."""
        return self.count * self.each


def estimate(dataset: Dataset, run: Configured) -> list[Step]:
    """Estimate the stages of a run without writing anything.

    Raises:
        PosfeatError: options or images that cannot be used.
    """
    options = run.options
    database, queries = len(dataset.database_names), len(dataset.query_names)
    images = database + queries
    if dataset.pairs is not None:
        given, listed = read_pairs(dataset.pairs), set(dataset.query_names)
        pairs, of_queries = len(given), sum(not listed.isdisjoint(pair) for pair in given)
        images = len({name for pair in given for name in pair})
    else:
        of_queries = len(read_pairs(options.pairs)) if options.pairs else queries * min(options.neighbors, database)
        pairs = database * min(COVISIBLE, database - 1) + of_queries
    extraction, matching, keypoints, dimension = _try(dataset, run)
    runs = options.repeat
    steps = []
    if dataset.intrinsics is not None:
        size = dataset.model.stat().st_size
        steps.append(Step("reference", round(size / 1e6), "MB", _CONVERT, False, size))
    steps.append(Step("extract", images, "images", extraction, True, images * keypoints * (12 + 2 * dimension)))
    if dataset.pairs is None and options.pairs is None:
        steps.append(Step("retrieval", images, "images", _DESCRIBE, False, images * _GLOBAL_BYTES))
    return [
        *steps,
        Step("match", pairs, "pairs", matching, True, pairs * keypoints * _MATCH_BYTES),
        Step(
            "triangulate",
            runs * (pairs - of_queries),
            "pairs",
            _TRIANGULATE,
            False,
            runs * database * keypoints * _MAP_BYTES,
        ),
        Step("localize", runs * queries, "queries", _LOCALIZE, False, 0),
    ]


def as_table(steps: list[Step]) -> str:
    """Steps as the terminal shows them."""
    lines = ["stage            how many              time       disk"]
    for step in steps:
        how = f"{step.each:.2g} s each, {'tried here' if step.measured else 'assumed'}"
        lines.append(
            f"{step.name:<12}{step.count:>9} {step.unit:<9}{_duration(step.seconds):>10}{_size(step.bytes):>11}   {how}"
        )
    total = _duration(sum(step.seconds for step in steps)), _size(sum(step.bytes for step in steps))
    lines.append(f"{'together':<31}{total[0]:>10}{total[1]:>11}   at most; pairs and images that are done do not count")
    return "\n".join(lines)


def _try(dataset: Dataset, run: Configured) -> tuple[float, float, float, int]:
    """Seconds an image, seconds a pair, keypoints an image, length of a descriptor; from three images."""
    device = choose_device(run.options.device)
    extractor = extractors.create(run.feature["model"], device)
    names = [*dataset.database_names, *dataset.query_names]
    chosen = [names[i * (len(names) - 1) // 2] for i in range(3)]
    _extract(extractor, dataset.images / chosen[0], run)  # the first call is slow everywhere
    start = time.perf_counter()
    found = [_extract(extractor, dataset.images / name, run) for name in chosen[1:]]
    extraction = (time.perf_counter() - start) / len(found)
    matcher = matchers.create(run.matcher["model"])
    first, second = (tuple((f.keypoints.max(axis=0, initial=0) + 1).astype(int).tolist()) for f in found)
    matchers.match(matcher, found[0], found[1], device, (first, second))
    start = time.perf_counter()
    matchers.match(matcher, found[0], found[1], device, (first, second))
    matching = time.perf_counter() - start
    return extraction, matching, float(np.mean([len(features) for features in found])), found[0].descriptors.shape[1]


def _extract(extractor: Extractor, path: Path, run: Configured) -> Features:
    pixels = read_image(path, extractor.grayscale).pixels
    pixels = resize(pixels, run.feature["preprocessing"].get("resize_max"))
    channels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return extractor(torch.tensor(np.ascontiguousarray(channels))[None].float() / 255)[0]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(count: float) -> str:
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def run_aachen(
    dataset: Path, output: Path | None = None, options: AachenOptions | None = None, reporter: Reporter = QUIET
) -> Report:
    """Run a protocol; the same call resumes.

    Args:
        dataset: folder of the unpacked data set, whose version and layout are found out.
        output: folder of results, with ``summary.json``; ``outputs/aachen-<version>-<protocol>-<feature>`` when None.
        options: see :class:`AachenOptions`.
        reporter: hears what is done.

    Raises:
        PosfeatError: for anything a user can fix.
    """
    options = options or AachenOptions()
    found, settings = _opened(dataset, options, reporter)
    truth = None if options.ground_truth is None else read_true_poses(options.ground_truth, found.query_names)
    output = output or default_output(found, options)
    with only_writer(output), reporting(reporter):
        send_colmap_log_to(output / "logs")
        report = run_protocol(found, settings, output, truth)
        record = {"dataset": str(dataset), "output": str(output)} | recorded(options)
        summary = json.dumps(report.as_json(record), indent=2, ensure_ascii=False) + "\n"
        write_atomically(output / "summary.json", summary)
    return report


def estimate_aachen(dataset: Path, options: AachenOptions | None = None) -> tuple[Dataset, list[Step]]:
    """Check a data set and estimate time and disk of each stage; nothing is written.

    Raises:
        PosfeatError: as :func:`run_aachen`.
    """
    options = options or AachenOptions()
    found, settings = _opened(dataset, options, QUIET)
    if options.ground_truth is not None:
        read_true_poses(options.ground_truth, found.query_names)
    return found, estimate(found, settings)


def default_output(dataset: Dataset, options: AachenOptions) -> Path:
    """Default output folder."""
    return Path("outputs") / f"aachen-{dataset.version}-{dataset.protocol}-{options.feature}"


def _opened(path: Path, options: AachenOptions, reporter: Reporter) -> tuple[Dataset, Configured]:
    dataset = open_dataset(path, options.version, options.protocol)
    challenge = Option("protocol", "challenge")
    if options.protocol == "challenge":
        if options.pairs is not None:
            hloc = Option("protocol", "hloc")
            raise ConfigurationError(
                Option("pairs"), ": the challenge protocol takes the pairs of the data set; use ", hloc
            )
        if changed := [n for n in POSES if getattr(options, n) != getattr(PoseOptions, n)]:
            raise ConfigurationError(
                Option(changed[0]), " is for ", Option("protocol", "hloc"), "; with ", challenge,
                " COLMAP finds the poses of the queries",
            )  # fmt: skip
    return dataset, Configured.of(options, reporter.progress)
