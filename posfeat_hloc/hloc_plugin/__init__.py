"""All of this package inside an installed hloc: names in its confs, models it can load, a fix for its triangulation.

Nothing here imports hloc before a function is called, and no file of hloc is touched.
"""

from __future__ import annotations

import warnings
from contextlib import ExitStack

from posfeat_hloc.hloc_plugin.pipelines import features_in_pipelines, patch_triangulation
from posfeat_hloc.hloc_plugin.registration import Names, register, unregister

__all__ = ["Names", "cure_triangulation", "features_in_pipelines", "patch_triangulation", "register", "unregister"]


def cure_triangulation() -> ExitStack:
    """The old name of :func:`patch_triangulation`, which goes with the next release."""
    warnings.warn("cure_triangulation is now called patch_triangulation", DeprecationWarning, stacklevel=2)
    return patch_triangulation()
