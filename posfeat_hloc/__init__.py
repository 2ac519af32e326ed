"""Learned local features for COLMAP and hloc: describe first, then detect."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if "pycolmap" in sys.modules and "PIL._imaging" not in sys.modules:
    warnings.warn(
        "pycolmap was imported before Pillow: saving a PNG will abort the process (two copies of zlib); "
        "put `import posfeat_hloc` or `import PIL.Image` before `import pycolmap`",
        RuntimeWarning,
        stacklevel=2,
    )

import PIL.Image  # noqa: F401  loaded before pycolmap: the other way round, writing a PNG mixes two zlibs and aborts

from posfeat_hloc.hloc_plugin import registration
from posfeat_hloc.runtime.computation import sleep_while_waiting
from posfeat_hloc.runtime.memory import use_huge_pages

if TYPE_CHECKING:
    from posfeat_hloc.aachen.options import AachenOptions as AachenOptions
    from posfeat_hloc.aachen.pipeline import run_aachen as run_aachen
    from posfeat_hloc.evaluation.eth import evaluate_eth as evaluate_eth
    from posfeat_hloc.evaluation.hpatches import evaluate_hpatches as evaluate_hpatches
    from posfeat_hloc.evaluation.options import EthOptions as EthOptions
    from posfeat_hloc.evaluation.options import HPatchesOptions as HPatchesOptions
    from posfeat_hloc.evaluation.options import RelativePoseOptions as RelativePoseOptions
    from posfeat_hloc.evaluation.relative_pose import evaluate_relative_pose as evaluate_relative_pose
    from posfeat_hloc.hloc_plugin import register as register
    from posfeat_hloc.hloc_plugin import unregister as unregister
    from posfeat_hloc.localization.localizer import Localizer as Localizer
    from posfeat_hloc.localization.options import LocalizationOptions as LocalizationOptions
    from posfeat_hloc.localization.pipeline import localize as localize
    from posfeat_hloc.localization.register import register_images as register_images
    from posfeat_hloc.sfm.alignment import align_map as align_map
    from posfeat_hloc.sfm.map_at_known_poses import triangulate_images as triangulate_images
    from posfeat_hloc.sfm.merge import merge_map as merge_map
    from posfeat_hloc.sfm.options import RegisterOptions as RegisterOptions
    from posfeat_hloc.sfm.options import SfmOptions as SfmOptions
    from posfeat_hloc.sfm.options import TriangulateOptions as TriangulateOptions
    from posfeat_hloc.sfm.pipeline import reconstruct as reconstruct
    from posfeat_hloc.sfm.summary import SfmResult as SfmResult
    from posfeat_hloc.training.options import TrainingOptions as TrainingOptions
    from posfeat_hloc.training.pipeline import train as train

__version__ = "0.1.0"

registration.install_finder()
use_huge_pages()
sleep_while_waiting()


_FROM = {
    "reconstruct": "sfm.pipeline",
    "SfmOptions": "sfm.options",
    "SfmResult": "sfm.summary",
    "localize": "localization.pipeline",
    "Localizer": "localization.localizer",
    "LocalizationOptions": "localization.options",
    "triangulate_images": "sfm.map_at_known_poses",
    "TriangulateOptions": "sfm.options",
    "register_images": "localization.register",
    "RegisterOptions": "sfm.options",
    "merge_map": "sfm.merge",
    "align_map": "sfm.alignment",
    "train": "training.pipeline",
    "TrainingOptions": "training.options",
    "run_aachen": "aachen.pipeline",
    "AachenOptions": "aachen.options",
    "evaluate_hpatches": "evaluation.hpatches",
    "HPatchesOptions": "evaluation.options",
    "evaluate_eth": "evaluation.eth",
    "EthOptions": "evaluation.options",
    "evaluate_relative_pose": "evaluation.relative_pose",
    "RelativePoseOptions": "evaluation.options",
    "register": "hloc_plugin",
    "unregister": "hloc_plugin",
}
"""Name -> the module that has it, which is loaded when it is asked for: it may need torch, COLMAP or hloc."""


def __getattr__(name: str) -> Any:
    if name == "hloc_plugin":  # loaded when asked for: most users have no hloc
        return import_module("posfeat_hloc.hloc_plugin")
    if name in _FROM:
        return getattr(import_module(f"posfeat_hloc.{_FROM[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FROM})
