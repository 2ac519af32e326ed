"""Both protocols of Aachen, from the files of the data set to the file of results, resumable stage by stage.

*hloc*: pairs of the database by covisibility in the reference model, matches verified by the known poses, pairs of the
queries by retrieval, PnP in RANSAC for day and night. *challenge* (the local feature challenge, D2-Net's script): the
pairs that it hands out, COLMAP's verification, triangulation at known poses and intrinsics, registration of the night
queries by COLMAP's mapper.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path

import pycolmap

from posfeat_hloc import confs
from posfeat_hloc.aachen.colmap_files import read_prepared
from posfeat_hloc.aachen.layout import Dataset
from posfeat_hloc.aachen.nvm import convert_nvm
from posfeat_hloc.aachen.options import AachenOptions
from posfeat_hloc.aachen.pair_choice import ChosenPairs, choose_pairs, model_key
from posfeat_hloc.aachen.registration import register_queries
from posfeat_hloc.aachen.report import Report, Trial
from posfeat_hloc.confs import Conf
from posfeat_hloc.evaluation.poses import TrueCamera, localization_errors
from posfeat_hloc.extract_features import extract
from posfeat_hloc.images.loader import fingerprint
from posfeat_hloc.localization.localize import localize
from posfeat_hloc.localization.options import PoseOptions
from posfeat_hloc.localization.queries import Query, read_queries
from posfeat_hloc.localization.results import read_results, result_names, write_results
from posfeat_hloc.match_features import match
from posfeat_hloc.orientation import choose_views
from posfeat_hloc.runtime.progress import timed
from posfeat_hloc.runtime.resume import CacheKey, hash_of
from posfeat_hloc.sfm.database import MADE_BY
from posfeat_hloc.sfm.job import configurations
from posfeat_hloc.sfm.models import ModelSummary, read_model, summarize
from posfeat_hloc.sfm.triangulation import TriangulationOptions, triangulate
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.stores.pairs import read_pairs

_VERIFICATION = {"hloc": "poses", "challenge": "ransac"}
_RESULTS = {"v1": "Aachen_eval_[{}].txt", "v1.1": "Aachen_v1_1_eval_[{}].txt"}  # as the challenge's scripts name them


COVISIBLE = 20
"""Neighbours of a database image, by common points; hloc protocol."""

POSES = tuple(f.name for f in fields(PoseOptions) if f.name not in ("seed", "threads"))
"""How poses are found; hloc protocol."""


@dataclass(frozen=True)
class Configured:
    """The options of the benchmark, and the confs that they name."""

    options: AachenOptions
    feature: Conf
    matcher: Conf
    retrieval: Conf
    progress: bool = True

    @classmethod
    def of(cls, options: AachenOptions, progress: bool = True) -> Configured:
        """Raises ConfigurationError for options that no conf takes."""
        return cls(options, *configurations(options), deepcopy(confs.retrieval[options.retrieval]), progress)


def run_protocol(
    dataset: Dataset,
    run: Configured,
    output: Path,
    truth: Mapping[str, TrueCamera] | None = None,
) -> Report:
    """Run a protocol; what an earlier run made from the same inputs is kept.

    Args:
        dataset: see :func:`posfeat_hloc.aachen.layout.open_dataset`.
        run: options and confs.
        output: folder of all files: features, matches, pairs, and a folder ``seed-<n>`` with the map ``sfm`` and the
            results.
        truth: cameras of queries, for the recall; see :func:`posfeat_hloc.localization.results.read_true_poses`.

    Raises:
        PosfeatError: for anything a user can fix.
    """
    options = run.options
    report = Report(dataset, options.feature, thresholds=options.thresholds)
    output.mkdir(parents=True, exist_ok=True)
    with report.stage("reference"):
        reference = _reference_model(dataset, output, report, run.progress)
    features, matches = output / "features.h5", output / "matches.h5"
    seconds: dict[str, float] = {}
    with timed(seconds, "orient"):
        shown = choose_views(
            options.orientation, run.feature["model"], dataset.images, _images(dataset),
            output / "orientation.h5", device=options.device, progress=run.progress,
            resize_max=run.feature["preprocessing"]["resize_max"],
        )  # fmt: skip
    report.seconds |= seconds if shown.looked else {}
    report.notes += [f"{title}: {text}" for title, text in shown.remarks().items()]
    with report.stage("extract"):
        report.extraction = extract(
            run.feature, dataset.images, features, _images(dataset), options.device,
            progress=run.progress, views=shown.views, exif=shown.exif,
        )  # fmt: skip
    report.note_kept("extract", not report.extraction.extracted)
    with report.stage("pairs"):
        pairs = choose_pairs(
            dataset, reference, report.extraction.names, output, run.retrieval, COVISIBLE,
            options.neighbors, options.pairs, options.device, run.progress, shown,
        )  # fmt: skip
    report.database_pairs, report.query_pairs = len(pairs.database), len(pairs.queries)
    if dropped := pairs.asked - len(pairs.database) - len(pairs.queries):
        report.notes.append(f"{dropped} of {pairs.asked} pairs left out: an image has no pose, or cannot be read")
    with report.stage("match"):
        everything = [*pairs.database, *pairs.queries]
        matched = match(run.matcher, everything, features, matches, options.device, progress=run.progress)
    report.note_kept("match", matched.matched == 0)
    queries = {kind: _queries(dataset, path) for kind, path in dataset.queries.items()}
    for seed in range(options.seed, options.seed + options.repeat):
        random_part = _RandomPart(run, dataset, reference, features, matches, pairs, output / f"seed-{seed}", seed)
        trial = random_part.run([query for kind in queries.values() for query in kind], report)
        if truth is not None:
            poses = _poses(Path(trial.results), dataset.query_names)
            for kind, members in queries.items():
                known = {query.name: truth[query.name] for query in members if query.name in truth}
                if known:
                    trial.judge(kind, localization_errors(poses, known), options.thresholds)
        report.trials.append(trial)
    return report


def _reference_model(dataset: Dataset, output: Path, report: Report, progress: bool) -> Path:
    """The reference model as COLMAP reads it."""
    if dataset.intrinsics is None:
        return dataset.model
    reference = output / "reference"
    with CacheKey(reference, [fingerprint(dataset.model), fingerprint(dataset.intrinsics)]) as made:
        report.note_kept("reference", made.is_valid)
        if not made.is_valid:
            cameras = {query.name: query.camera for query in read_queries(dataset.intrinsics)}
            convert_nvm(dataset.model, cameras, reference, progress)
    return reference


def _images(dataset: Dataset) -> list[str]:
    names = {*dataset.database_names, *dataset.query_names}
    if dataset.pairs is not None:
        names &= {name for pair in read_pairs(dataset.pairs) for name in pair}
    return sorted(names)


def _queries(dataset: Dataset, path: Path) -> list[Query]:
    """The challenge takes the cameras of its queries from the database that it hands out."""
    listed = read_queries(path)
    if dataset.database is None:
        return listed
    prepared = read_prepared(dataset.database)
    return [Query(query.name, prepared.get(query.name, query.camera)) for query in listed]


def _poses(results: Path, names: Sequence[str]) -> dict[str, pycolmap.Rigid3d]:
    """Query name -> pose, from a result file, whose names lack the folders."""
    found = read_results(results)
    return {name: found[short] for name, short in result_names(names).items() if short in found}


@dataclass(frozen=True)
class _RandomPart:
    """What depends on the seed: the map and the poses of the queries, in a folder of their own."""

    configured: Configured
    dataset: Dataset
    reference: Path
    features: Path
    matches: Path
    pairs: ChosenPairs
    folder: Path
    seed: int

    @property
    def options(self) -> AachenOptions:
        return self.configured.options

    def run(self, queries: list[Query], report: Report) -> Trial:
        self.folder.mkdir(parents=True, exist_ok=True)
        method = f"{self.options.feature}_{self.dataset.protocol}"
        results = self.folder / _RESULTS[self.dataset.version].format(method)
        key = self._map_key()
        with report.stage("triangulate"):
            model = self._map(key, report)
        with report.stage("localize"):
            if self.dataset.protocol == "hloc":
                failed = self._localize(queries, results)
            else:
                failed = self._register(queries, results, key, report)
        return Trial(self.seed, model, str(results), len(queries) - len(failed), failed)

    def _map_key(self) -> str:
        """Changes with anything that the map depends on."""
        digests = self._digests({name for pair in self.pairs.database for name in pair})
        matcher, verification = self.configured.matcher["model"], _VERIFICATION[self.dataset.protocol]
        return hash_of(
            [digests, self.pairs.database, matcher, model_key(self.reference), verification, self.seed,
             *MADE_BY]
        )  # fmt: skip

    def _digests(self, names: Collection[str]) -> list[tuple[str, str]]:
        with FeatureStore(self.features) as store:
            return [(name, store.digest(name)) for name in sorted(names)]

    def _map(self, key: str, report: Report) -> ModelSummary:
        """Triangulate at the poses of the reference model."""
        settings = TriangulationOptions(
            _VERIFICATION[self.dataset.protocol], seed=self.seed, threads=self.options.threads
        )
        sfm = self.folder / "sfm"
        with CacheKey(sfm, key) as made:
            report.note_kept("triangulate", made.is_valid)
            if made.is_valid:
                return summarize(read_model(sfm), sfm)
            return triangulate(
                self.reference, self.dataset.images, self.features, self.matches, self.pairs.database, sfm, settings,
                self.configured.progress,
            )  # fmt: skip

    def _localize(self, queries: list[Query], results: Path) -> dict[str, str]:
        """PnP for every query, resumed from its log; returns why queries have no pose."""
        given = {name: getattr(self.options, name) for name in POSES}
        localized = localize(
            self.folder / "sfm", queries, self.pairs.queries, self.features, self.matches,
            PoseOptions(**given, seed=self.seed, threads=self.options.threads),
            self.folder / "localization.jsonl", progress=self.configured.progress,
        )  # fmt: skip
        write_results(
            results, {name: q.cam_from_world for name, q in localized.items() if q.cam_from_world is not None}
        )
        return {name: query.reason for name, query in localized.items() if not query.localized}

    def _register(self, queries: list[Query], results: Path, map_key: str, report: Report) -> dict[str, str]:
        """COLMAP's registration of every query; returns why queries have no pose."""
        failed = {}
        with FeatureStore(self.features) as store:
            for query in queries:
                size = query.camera.width, query.camera.height
                if query.name not in store:
                    failed[query.name] = "no features: the image cannot be read, or no pair names it"
                elif store.image_size(query.name) != size:
                    failed[query.name] = f"its camera is for {size[0]}x{size[1]} pixels, the image has another size"
        able = [query for query in queries if query.name not in failed]
        chosen = [pair for pair in self.pairs.queries if pair[0] not in failed]
        cameras = [(query.name, query.camera.model_name, list(query.camera.params)) for query in able]
        with CacheKey(results, [map_key, chosen, self._digests([query.name for query in able]), cameras]) as made:
            report.note_kept("localize", made.is_valid)
            if not made.is_valid:
                poses = register_queries(
                    self.folder / "sfm", able, chosen, self.features, self.matches, self.folder / "queries.db",
                    self.seed, self.options.threads, self.configured.progress,
                )  # fmt: skip
                write_results(results, poses)
        registered = _poses(results, [query.name for query in queries])
        for query in able:
            if query.name not in registered:
                failed[query.name] = "COLMAP found no pose: too few verified matches with points of the map"
        return dict(sorted(failed.items()))
