"""The stages of ``pipelines.sfm`` from features to models, with all keypoints at once."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipelines.sfm_options import Settings
from pipelines.summary import Run
from posfeat_hloc.cluster import Cluster
from posfeat_hloc.images.loader import fingerprint
from posfeat_hloc.match_features import match
from posfeat_hloc.runtime.resume import Made, hash_of
from posfeat_hloc.sfm.coordinate_frame import keep_frame, remember_frame
from posfeat_hloc.sfm.database import MADE_BY, build_database, describe_database, verify
from posfeat_hloc.sfm.georeference import georeference
from posfeat_hloc.sfm.gps import LocalPositions, Position, write_priors
from posfeat_hloc.sfm.pairs import Pair, write_pairs
from posfeat_hloc.sfm.reconstruction import MAPPED_BY, ModelSummary, read_model, reconstruct, summarize
from posfeat_hloc.sfm.rigs import apply_rigs
from posfeat_hloc.stores import FeatureStore


@dataclass(frozen=True)
class Job:
    """What is to be reconstructed.

    Attributes:
        args: of the command line.
        settings: what they ask for.
        run: is filled in.
        cluster: that matches, if any.
        features: feature file.
        usable: images in it.
        pairs: of images to be matched.
        gps: positions of images, to which the models are aligned; none where that was not asked for.
        positions: the same in metres.
    """

    args: argparse.Namespace
    settings: Settings
    run: Run
    cluster: Cluster | None
    features: Path
    usable: list[str]
    pairs: list[Pair]
    gps: dict[str, Position] = field(default_factory=dict)
    positions: LocalPositions | None = None

    def key(self, features: Path) -> str:
        """Changes with anything that a database of these features depends on."""
        args = self.args
        with FeatureStore(features) as store:
            digests = [(name, store.digest(name), fingerprint(args.images / name)) for name in self.usable]
        camera = asdict(self.settings.camera)
        rig = [] if args.rig is None else [args.rig.read_text(encoding="utf-8")]
        return hash_of([digests, self.pairs, self.settings.matcher["model"], camera, args.seed, *MADE_BY, *rig])

    def match(self, pairs: list[Pair], features: Path, matches: Path) -> int:
        """Match pairs with the matcher that was asked for; how many were not there before."""
        args = self.args
        report = match(
            self.settings.matcher, pairs, features, matches, args.device,
            progress=not args.quiet, memory=args.memory, cluster=self.cluster,
        )  # fmt: skip
        return report.matched

    def verified(self, database: Path, features: Path, matches: Path) -> None:
        """Write a database of all pairs, verified."""
        args = self.args
        partial = database.with_name("database.partial.db")
        camera = self.settings.camera
        build_database(partial, args.images, features, matches, self.usable, self.pairs, camera, not args.quiet)
        if self.settings.rigs:
            apply_rigs(partial, self.settings.rigs)
        verify(partial, args.seed, args.threads, progress=not args.quiet)
        partial.replace(database)

    def model_inputs(self, key: str) -> list[Any]:
        """All that the final models depend on."""
        placed = [{name: asdict(position) for name, position in self.gps.items()}] if self.args.gps else []
        return [key, asdict(self.settings.mapper), MAPPED_BY, *placed]

    @contextmanager
    def placed(self, sparse: Path) -> Iterator[None]:
        """Put the models that the block makes where GPS says, or where an earlier model of the same images was."""
        if not self.args.gps:
            remember_frame(sparse.parent)
        yield
        if self.args.gps and self.positions is not None:
            georeference(sparse, self.positions, self.args.seed)
        elif remark := keep_frame(sparse.parent):
            self.run.remarks["frame"] = remark

    def describe_database(self, database: Path) -> None:
        """Count what the final database holds, and write GPS positions into it."""
        self.run.database = describe_database(database)
        if self.args.gps:
            write_priors(database, self.gps)

    def tell(self, text: str) -> None:
        """Say what a stage without a bar does."""
        if not self.args.quiet:
            print(text, flush=True)


def all_at_once(job: Job) -> None:
    """Make ``matches.h5``, ``database.db`` and ``sparse`` from all keypoints."""
    args, run, output = job.args, job.run, job.args.output
    matches, database, sparse = output / "matches.h5", output / "database.db", output / "sparse"
    run.pairs = len(job.pairs)
    write_pairs(output / "pairs.txt", job.pairs)
    with run.stage("match"):
        made = job.match(job.pairs, job.features, matches)
    run.note_kept("match", made == 0)
    key = job.key(job.features)
    with run.stage("verify"), Made(database, key) as stage:
        run.note_kept("verify", stage.already)
        if not stage.already:
            job.verified(database, job.features, matches)
    job.describe_database(database)
    with run.stage("map"), Made(sparse, job.model_inputs(key)) as stage:
        run.note_kept("map", stage.already)
        if stage.already:
            run.models = summaries(sparse)
        else:
            with job.placed(sparse):
                run.models = reconstruct(database, args.images, sparse, job.settings.mapper, progress=not args.quiet)


def model_folders(sparse: Path) -> list[Path]:
    """Folders of models, in their order."""
    return sorted((path for path in sparse.iterdir() if path.is_dir()), key=lambda path: int(path.name))


def summaries(sparse: Path) -> list[ModelSummary]:
    """Of models that were made before."""
    return [summarize(read_model(folder), folder) for folder in model_folders(sparse)]
