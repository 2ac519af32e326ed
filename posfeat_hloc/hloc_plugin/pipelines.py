"""hloc's own pipelines (Cambridge, 7Scenes, RobotCar, CMU, Aachen, ...) with the features of this package.

They name SuperPoint, SuperGlue and NetVLAD in their code. While :func:`features_in_pipelines` is in force, hloc's
``extract_features.main`` and ``match_features.main`` do their work with the confs of this package instead.

:func:`patch_triangulation` is a fix for hloc 1.5 with pycolmap 4, which make models without a single point:
``hloc.triangulation.main`` (in its default mode, and with ``skip_geometric_verification``) and
``hloc.reconstruction.main(skip_geometric_verification=True)`` write matches that they hold for verified as two-view
geometries without a configuration. COLMAP 4 passes over these: triangulation ends with 0 points and no error, and
reconstruction returns None. hloc's pipeline for Aachen is one of those that end so.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.hloc_plugin.installation import load, unknown
from posfeat_hloc.hloc_plugin.registration import register

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
        HlocError: hloc is missing, cannot be imported, or has an unexpected structure; nothing is changed then.
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


Main = Callable[..., Any]


@contextmanager
def features_in_pipelines(
    feature: str = confs.DEFAULT_FEATURE,
    matcher: str | None = None,
    retrieval: str | None = "vlad-hardnet",
    max_keypoints: int | None = None,
) -> Iterator[None]:
    """Let whatever hloc extracts and matches inside the ``with`` block be features of this package.

    Files keep the names that the pipeline gives them, for it looks for them there; take an output folder of their own.
    Triangulation is patched, see :func:`posfeat_hloc.hloc_plugin.patch_triangulation`. One at a time in a process.

    Args:
        feature: name in ``posfeat_hloc.confs.extractors``.
        matcher: name in ``posfeat_hloc.confs.matchers``; the one that suits the feature when None.
        retrieval: name in ``posfeat_hloc.confs.retrieval`` in place of NetVLAD; None leaves hloc's own.
        max_keypoints: the conf's when None.

    Raises:
        ConfigurationError: a name that does not exist.
        HlocError: hloc is missing, cannot be imported, or has an unexpected structure; nothing is changed then.
    """
    matcher = matcher or confs.default_matchers.get(feature, "NN-mutual")
    for kind, name, known in (
        ("feature", feature, confs.extractors),
        ("matcher", matcher, confs.matchers),
        ("retrieval", retrieval, confs.retrieval),
    ):
        if name is not None and name not in known:
            raise ConfigurationError(f"{kind} {name!r} does not exist; choose from {', '.join(known)}")
    names = register()
    extract: Any = load("hloc.extract_features", "confs", "main")
    match: Any = load("hloc.match_features", "confs", "main")
    local = deepcopy(extract.confs[names.extractors[feature]])
    if max_keypoints is not None:
        local["model"]["max_keypoints"] = max_keypoints
    others = None if retrieval is None else deepcopy(extract.confs[names.retrieval[retrieval]])
    originals = extract.main, match.main
    replaced = (
        _replacing(extract.main, local, others),
        _replacing(match.main, deepcopy(match.confs[names.matchers[matcher]]), None),
    )
    extract.main, match.main = replaced
    try:
        with patch_triangulation():
            yield
    finally:
        extract.main, match.main = originals


def _replacing(main: Main, local: confs.Conf, others: confs.Conf | None) -> Main:
    """The same ``main`` with another conf: ``local`` for local features and matches, ``others`` for global features."""
    signature = inspect.signature(main)
    if "conf" not in signature.parameters:
        raise unknown(f"{main.__module__}.main takes no conf")

    @functools.wraps(main)
    def replaced(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        asked = given.arguments["conf"]
        is_global = str(asked.get("output", "")).startswith("global-feats")  # what hloc calls all of these
        conf = others if is_global else local
        if conf is not None:
            given.arguments["conf"] = _as_asked(conf, asked, given.arguments.get("image_dir"))
        return main(*given.args, **given.kwargs)

    return replaced


def _as_asked(conf: confs.Conf, asked: confs.Conf, images: Path | None) -> confs.Conf:
    """Our conf, with the pipeline's names of files and patterns of images."""
    conf = deepcopy(conf) | {"output": asked["output"]}
    if "globs" in asked.get("preprocessing", {}):
        conf["preprocessing"]["globs"] = asked["preprocessing"]["globs"]
    if conf["model"]["name"] == "vlad" and images is not None:
        conf["model"]["vocabulary"] = str(images)
    return conf
