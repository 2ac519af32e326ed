"""Learned local features for COLMAP and hloc: describe first, then detect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import PIL.Image  # noqa: F401  loaded before pycolmap: the other way round, writing a PNG mixes two zlibs and aborts

from posfeat_hloc.memory import use_huge_pages

if TYPE_CHECKING:
    from posfeat_hloc.hloc_plugin import register as register
    from posfeat_hloc.hloc_plugin import unregister as unregister

__version__ = "0.1.0"

use_huge_pages()


def __getattr__(name: str) -> Any:
    if name in ("register", "unregister"):  # loaded when asked for: most users have no hloc
        from posfeat_hloc import hloc_plugin

        return getattr(hloc_plugin, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
