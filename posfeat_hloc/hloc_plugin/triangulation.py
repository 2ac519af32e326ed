"""A fix for hloc 1.5 with pycolmap 4: models without a single point.

``hloc.triangulation.main`` (in its default mode, and with ``skip_geometric_verification``) and
``hloc.reconstruction.main(skip_geometric_verification=True)`` write matches that they hold for verified as two-view
geometries without a configuration. COLMAP 4 passes over these: triangulation ends with 0 points and no error, and
reconstruction returns None. hloc's pipeline for Aachen is one of those that end so.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

from posfeat_hloc.hloc_plugin.installation import load, unknown

_STEPS = (("hloc.triangulation", "run_triangulation"), ("hloc.reconstruction", "run_reconstruction"))
"""What reads the database once hloc has written it."""

_lock = threading.Lock()
_originals: dict[str, tuple[ModuleType, Callable[..., Any]]] = {}
_users = 0


def patch_triangulation() -> ExitStack:
    """From now on, let hloc complete the two-view geometries it wrote before it triangulates or reconstructs.

    Those with matches but without a configuration become CALIBRATED; all others stay as they are. Works in this
    process only, on ``hloc.triangulation.main`` and ``hloc.reconstruction.main`` and what calls them, and logs how many
    were completed. Needed with pycolmap 4 and hloc 1.5; with versions that do without, it changes nothing.

        with patch_triangulation():
            hloc.triangulation.main(...)

    Returns:
        the patch: leaving its ``with`` block, or calling its ``close()``, takes it back.

    Raises:
        HlocError: hloc is missing, cannot be imported, or is built otherwise than expected; nothing is changed then.
    """
    global _users
    with _lock:
        if _users == 0:
            found = {name: (load(module, name), getattr(load(module, name), name)) for module, name in _STEPS}
            for name, (module, step) in found.items():
                if "database_path" not in inspect.signature(step).parameters:
                    raise unknown(f"{module.__name__}.{name} takes no database_path")
            _originals.update(found)
            for name, (module, step) in found.items():
                setattr(module, name, _after_completing(step))
        _users += 1
    patch = ExitStack()
    patch.callback(_take_back)
    return patch


def complete_geometries(database: Path) -> int:
    """Make two-view geometries with matches but without a configuration CALIBRATED; returns how many there were."""
    import pycolmap

    undefined, calibrated = (
        getattr(pycolmap.TwoViewGeometryConfiguration, name) for name in ("UNDEFINED", "CALIBRATED")
    )
    completed = 0
    with pycolmap.Database.open(database) as db, pycolmap.DatabaseTransaction(db):
        pairs, counts = db.read_two_view_geometry_num_inliers()
        for pair, count in zip(pairs, counts, strict=True):
            if count == 0:
                continue
            ids = pycolmap.pair_id_to_image_pair(pair)
            geometry = db.read_two_view_geometry(*ids)
            if geometry.config == undefined:
                geometry.config = calibrated
                db.update_two_view_geometry(*ids, geometry)
                completed += 1
    return completed


def _after_completing(step: Callable[..., Any]) -> Callable[..., Any]:
    """The same step of hloc, on a completed database."""
    signature = inspect.signature(step)

    @functools.wraps(step)
    def patched(*args: Any, **kwargs: Any) -> Any:
        completed = complete_geometries(signature.bind(*args, **kwargs).arguments["database_path"])
        load("hloc", "logger").logger.info("posfeat_hloc completed %d two-view geometries", completed)
        return step(*args, **kwargs)

    return patched


def _take_back() -> None:
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            for name, (module, step) in _originals.items():
                setattr(module, name, step)
            _originals.clear()
