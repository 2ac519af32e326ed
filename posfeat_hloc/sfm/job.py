"""State of a reconstruction: options, paths and intermediate results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from posfeat_hloc import confs
from posfeat_hloc.cluster import Cluster
from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.extractors import with_limit
from posfeat_hloc.extractors.choice import extracted_conf, with_weights
from posfeat_hloc.images.loader import fingerprint
from posfeat_hloc.match_features import match
from posfeat_hloc.matchers import check_suits
from posfeat_hloc.runtime.options import plain, recorded
from posfeat_hloc.runtime.reporter import QUIET, Reporter
from posfeat_hloc.runtime.resume import CacheKey, hash_of
from posfeat_hloc.sfm.alignment import keep_frame, remember_frame
from posfeat_hloc.sfm.calibration import read_calibrations
from posfeat_hloc.sfm.cameras import CameraOptions
from posfeat_hloc.sfm.coarse_keypoints import coarse_noise, max_error
from posfeat_hloc.sfm.database import MADE_BY, build_database, describe_database, verify
from posfeat_hloc.sfm.georeference import georeference
from posfeat_hloc.sfm.gps import LocalPositions, Position, write_priors
from posfeat_hloc.sfm.options import FeatureOptions, SfmOptions
from posfeat_hloc.sfm.reconstruction import MAPPED_BY, MapperOptions
from posfeat_hloc.sfm.rigs import apply_rigs, read_rigs
from posfeat_hloc.sfm.summary import SfmResult
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.stores.pairs import Pair


def configurations(options: FeatureOptions) -> tuple[confs.Conf, confs.Conf]:
    """The feature and matcher confs that options ask for.

    Raises:
        ConfigurationError: no such feature, weights for one that has none, or a matcher that was trained for another.
    """
    feature = extracted_conf(options.feature)
    if options.max_size is not None:
        feature["preprocessing"]["resize_max"] = options.max_size
    if options.max_keypoints is not None:
        feature["model"] = with_limit(feature["model"], options.max_keypoints)
    if options.weights is not None:
        feature = with_weights(feature, options.feature, options.weights)
    matcher = options.matcher or confs.default_matchers[options.feature.partition(":")[0]]
    conf = deepcopy(confs.matchers[matcher])
    check_suits(conf["model"].get("features"), feature, f"matcher {matcher}")
    return feature, conf


@dataclass(frozen=True)
class Settings:
    """Settings of a reconstruction."""

    feature: confs.Conf
    matcher: confs.Conf
    camera: CameraOptions
    mapper: MapperOptions
    rigs: list[Any]
    """pycolmap's; empty without."""

    @classmethod
    def of(cls, options: SfmOptions, videos: Sequence[str] = ()) -> Settings:
        """The settings that options ask for.

        Args:
            options: complete, see :func:`posfeat_hloc.sfm.options.complete`.
            videos: folders of frames that stand beside photographs; each has one camera.

        Raises:
            ConfigurationError: options that do not belong together.
        """
        if options.loop_closure and options.pairs != "sequential":
            raise ConfigurationError(
                Option("loop_closure"), " is for ", Option("pairs", "sequential"),
                "; retrieval alone finds loops as well",
            )  # fmt: skip
        if options.fix_camera and options.camera_params is None:
            raise ConfigurationError(
                Option("fix_camera"), " keeps the intrinsics of ", Option("camera_params"), "; give them"
            )
        return cls(
            *configurations(options),
            _camera(options, tuple(videos)),
            MapperOptions(options.mapper, options.seed, options.threads, refine_intrinsics=not options.fix_camera),
            [] if options.rig is None else read_rigs(options.rig),
        )


def _camera(options: SfmOptions, videos: tuple[str, ...]) -> CameraOptions:
    """Camera, model and intrinsics, numbers or a file."""
    mode, model, given = options.camera or "auto", options.camera_model or "SIMPLE_RADIAL", options.camera_params
    if isinstance(given, Path):
        return CameraOptions(mode, model, calibrations=read_calibrations(given), videos=videos)
    return CameraOptions(mode, model, given, videos=videos)


@dataclass
class Job:
    """What is to be reconstructed.

    Attributes:
        images: folder that is read; in ``output`` where the images come from videos or are rendered.
        output: folder of the results.
        options: complete, see :func:`posfeat_hloc.sfm.options.complete`.
        photos: folder of photographs beside videos.
        result: is filled in.
        reporter: hears what is done.
        cluster: that extracts and matches, if any.
        usable: images with features.
        pairs: of images to be matched.
        gps: positions of images; none where nothing asks for them.
        positions: the same in metres.
    """

    images: Path
    output: Path
    options: SfmOptions = field(default_factory=SfmOptions)
    photos: Path | None = None
    result: SfmResult = field(default_factory=SfmResult)
    reporter: Reporter = QUIET
    cluster: Cluster | None = None
    usable: list[str] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    gps: dict[str, Position] = field(default_factory=dict)
    positions: LocalPositions | None = None

    @cached_property
    def settings(self) -> Settings:
        """What the options ask for; they may change no more once it is read."""
        videos = [video.stem for video in self.options.video or ()]
        return Settings.of(self.options, videos if self.photos is not None else ())

    @cached_property
    def mapper(self) -> MapperOptions:
        """Mapping options for the keypoints in the feature file; after extraction."""
        return replace(self.settings.mapper, keypoint_noise=coarse_noise(self.features, self.usable))

    @property
    def progress(self) -> bool:
        """Whether bars are drawn."""
        return self.reporter.progress

    @property
    def features(self) -> Path:
        """The feature file."""
        return self.output / "features.h5"

    @property
    def record(self) -> dict[str, Any]:
        """The configuration as ``summary.json`` holds it."""
        folders = {"images": self.images, "photos": self.photos, "output": self.output}
        return {name: plain(path) for name, path in folders.items()} | recorded(self.options)

    @contextmanager
    def stage(self, name: str, path: Path, inputs: Any) -> Iterator[bool]:
        """Time a stage that writes a file or folder; whether it has anything to do, see :class:`CacheKey`."""
        with self.result.stage(name), CacheKey(path, inputs) as key:
            self.result.note_kept(name, key.is_valid)
            yield not key.is_valid

    def note(self, text: str) -> None:
        """Report a choice that was made for the user, or a better one; recorded in ``summary.json``."""
        self.result.messages.append(text)
        self.reporter.note(text)

    def key(self, features: Path) -> str:
        """Changes with anything that a database of these features depends on."""
        options = self.options
        with FeatureStore(features) as store:
            digests = [(name, store.digest(name), fingerprint(self.images / name)) for name in self.usable]
        camera = asdict(self.settings.camera)
        rig = [] if options.rig is None else [options.rig.read_text(encoding="utf-8")]
        coarse = [self.mapper.keypoint_noise] if self.mapper.keypoint_noise else []
        return hash_of(
            [digests, self.pairs, self.settings.matcher["model"], camera, options.seed, *MADE_BY, *rig, *coarse]
        )

    def match(self, pairs: list[Pair], features: Path, matches: Path) -> int:
        """Match pairs; returns the number of new ones."""
        report = match(
            self.settings.matcher, pairs, features, matches, self.options.device,
            progress=self.progress, memory=self.options.memory, cluster=self.cluster,
        )  # fmt: skip
        return report.matched

    def verified(self, database: Path, features: Path, matches: Path) -> None:
        """Write a database of all pairs, verified."""
        partial = database.with_name("database.partial.db")
        camera = self.settings.camera
        build_database(partial, self.images, features, matches, self.usable, self.pairs, camera, self.progress)
        if self.settings.rigs:
            apply_rigs(partial, self.settings.rigs)
        error = max_error(self.mapper.keypoint_noise)
        verify(partial, self.options.seed, self.options.threads, error, self.progress)
        partial.replace(database)

    def model_inputs(self, key: str) -> list[Any]:
        """All that the final models depend on."""
        placed = [{name: asdict(position) for name, position in self.gps.items()}] if self.options.gps else []
        return [key, asdict(self.mapper), MAPPED_BY, *placed]

    @contextmanager
    def placed(self, sparse: Path) -> Iterator[None]:
        """Align the models of the block to GPS, or to an earlier model of the same images."""
        if not self.options.gps:
            remember_frame(sparse.parent)
        yield
        if self.options.gps and self.positions is not None:
            georeference(sparse, self.positions, self.options.seed)
        elif remark := keep_frame(sparse.parent):
            self.result.remarks["frame"] = remark

    def describe_database(self, database: Path) -> None:
        """Count what the final database holds, and write GPS positions into it."""
        self.result.database = describe_database(database)
        if self.options.gps:
            write_priors(database, self.gps)
