"""From the options of a reconstruction to the confs and settings of its stages."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.extractors import with_limit
from posfeat_hloc.extractors.choice import extracted_conf, with_weights
from posfeat_hloc.matchers import check_suits
from posfeat_hloc.sfm.calibration import read_calibrations
from posfeat_hloc.sfm.cameras import CameraOptions
from posfeat_hloc.sfm.options import FeatureOptions, SfmOptions
from posfeat_hloc.sfm.reconstruction import MapperOptions
from posfeat_hloc.sfm.rigs import read_rigs


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
    """How images are turned into a model."""

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
