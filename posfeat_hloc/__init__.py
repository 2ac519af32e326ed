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

from posfeat_hloc.hloc_plugin import model_finder
from posfeat_hloc.runtime.memory import use_huge_pages
from posfeat_hloc.runtime.openmp import sleep_while_waiting

if TYPE_CHECKING:
    from posfeat_hloc import hloc_plugin as hloc_plugin
    from posfeat_hloc.hloc_plugin import register as register
    from posfeat_hloc.hloc_plugin import unregister as unregister

__version__ = "0.1.0"

model_finder.install()
use_huge_pages()
sleep_while_waiting()


def __getattr__(name: str) -> Any:
    if name == "hloc_plugin":  # loaded when asked for: most users have no hloc
        return import_module("posfeat_hloc.hloc_plugin")
    if name in ("register", "unregister"):
        return getattr(import_module("posfeat_hloc.hloc_plugin"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
