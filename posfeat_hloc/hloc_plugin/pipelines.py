"""hloc's own pipelines (Cambridge, 7Scenes, RobotCar, CMU, Aachen, ...) with the features of this package.

They name SuperPoint, SuperGlue and NetVLAD in their code. While :func:`features_in_pipelines` is in force, hloc's
``extract_features.main`` and ``match_features.main`` do their work with the confs of this package instead.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.hloc_plugin.installation import load, unknown
from posfeat_hloc.hloc_plugin.registration import register
from posfeat_hloc.hloc_plugin.triangulation import patch_triangulation

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
        HlocError: hloc is missing, cannot be imported, or is built otherwise than expected; nothing is changed then.
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
