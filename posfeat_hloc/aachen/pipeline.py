"""Aachen Day-Night, from the folder of the data set to the file for visuallocalization.net."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import fields
from pathlib import Path

from posfeat_hloc import confs
from posfeat_hloc.aachen.estimate import Step, estimate
from posfeat_hloc.aachen.layout import Dataset, open_dataset
from posfeat_hloc.aachen.options import AachenOptions
from posfeat_hloc.aachen.protocols import ProtocolOptions, run_protocol
from posfeat_hloc.aachen.report import Report
from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.localization.options import PoseOptions
from posfeat_hloc.localization.results import read_true_poses
from posfeat_hloc.runtime.colmap_log import send_colmap_log_to
from posfeat_hloc.runtime.options import recorded
from posfeat_hloc.runtime.output import only_writer, write_atomically
from posfeat_hloc.runtime.reporter import QUIET, Reporter, reporting
from posfeat_hloc.sfm.job import configurations

_POSES = tuple(f.name for f in fields(PoseOptions) if f.name not in ("seed", "threads"))


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
        report = run_protocol(found, settings, output, truth, options.thresholds)
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
    """Where results go, if not told otherwise."""
    return Path("outputs") / f"aachen-{dataset.version}-{dataset.protocol}-{options.feature}"


def _opened(path: Path, options: AachenOptions, reporter: Reporter) -> tuple[Dataset, ProtocolOptions]:
    dataset = open_dataset(path, options.version, options.protocol)
    challenge = Option("protocol", "challenge")
    if options.protocol == "challenge":
        if options.pairs is not None:
            hloc = Option("protocol", "hloc")
            raise ConfigurationError(
                Option("pairs"), ": the challenge protocol takes the pairs of the data set; use ", hloc
            )
        if changed := [n for n in _POSES if getattr(options, n) != getattr(PoseOptions, n)]:
            raise ConfigurationError(
                Option(changed[0]), " is for ", Option("protocol", "hloc"), "; with ", challenge,
                " COLMAP finds the poses of the queries",
            )  # fmt: skip
    return dataset, _settings(options, reporter)


def _settings(options: AachenOptions, reporter: Reporter) -> ProtocolOptions:
    """Confs and options of the protocols."""
    feature, matcher = configurations(options)
    return ProtocolOptions(
        feature=options.feature,
        feature_conf=feature,
        matcher_conf=matcher,
        retrieval_conf=deepcopy(confs.retrieval[options.retrieval]),
        retrieved=options.neighbors,
        pairs=options.pairs,
        localization=PoseOptions(**{name: getattr(options, name) for name in _POSES}),
        seeds=tuple(range(options.seed, options.seed + options.repeat)),
        device=options.device,
        threads=options.threads,
        progress=reporter.progress,
        orientation=options.orientation,
    )
