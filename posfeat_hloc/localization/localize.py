"""Poses of queries in a map: gather matches, estimate in threads, log, resume."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.localization.maps import SparseMap
from posfeat_hloc.localization.options import PoseOptions
from posfeat_hloc.localization.pose_problem import PoseProblem
from posfeat_hloc.localization.queries import Query
from posfeat_hloc.localization.results import Localized, Log
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.stores import FeatureStore, MatchStore
from posfeat_hloc.stores.pairs import Pair

if TYPE_CHECKING:
    from posfeat_hloc.cluster import Cluster


def localize(
    model: Path | SparseMap,
    queries: Sequence[Query],
    pairs: Sequence[Pair],
    features: Path,
    matches: Path,
    options: PoseOptions | None = None,
    log: Path | None = None,
    map_features: Path | None = None,
    progress: bool = True,
    cluster: Cluster | None = None,
) -> dict[str, Localized]:
    """Localize queries from their matches with images of a map.

    Args:
        model: COLMAP model made from ``map_features``.
        queries: with features in ``features``; one without is not localized.
        pairs: (query, map image), for each query the most similar map image first; map images without a pose are
            left out.
        matches: of all these pairs.
        log: JSON Lines, one for each query. Queries whose line was made from the same matches, camera and options are
            not estimated again, so that an interrupted run resumes.
        map_features: ``features`` when None, as in hloc.
        cluster: where poses are estimated, in place of threads.

    Returns:
        query name -> what became of it, in the order of the queries.

    Raises:
        ConfigurationError: two queries have one name, or queries and map have different features.
        MappingError: the model cannot be read, or was made from other features.
        StoreError: a file is missing or damaged, or a pair has no matches.
    """
    options = options or PoseOptions()
    name, count = Counter(query.name for query in queries).most_common(1)[0] if queries else ("", 0)
    if count > 1:
        raise ConfigurationError(f"{name!r} is among the queries {count} times; remove all but one")
    sparse = model if isinstance(model, SparseMap) else SparseMap(model)
    retrieved: dict[str, list[str]] = {}
    for name, image in dict.fromkeys(pairs):
        retrieved.setdefault(name, []).append(image)
    result = {}
    with (
        FeatureStore(features) as query_store,
        FeatureStore(map_features or features) as map_store,
        MatchStore(matches) as match_store,
        Log(log) as records,
    ):
        check_same_feature(query_store, map_store)
        checked: set[str] = set()

        def problems() -> Iterator[PoseProblem | Localized]:
            for query in queries:
                images = [image for image in retrieved.get(query.name, []) if image in sparse]
                sparse.check_features(map_store, [image for image in images if image not in checked])
                checked.update(images)
                yield _problem(query, len(retrieved.get(query.name, [])), images, sparse, query_store, match_store)

        with Bar(total=len(queries), desc="localize", unit="query", disable=not progress) as bar:
            for key, found in _solve_all(problems(), options, records, cluster):
                found = replace(found, rotation=query_store.view(found.name).rotation)
                records.add(key, found)  # without the fallback, which another run may not ask for
                result[found.name] = _fall_back(found, retrieved.get(found.name, []), sparse, options)
                bar.update()
        records.finish()
    return result


def check_same_feature(queries: FeatureStore, sparse_map: FeatureStore) -> None:
    """Raises ConfigurationError where two files record features that cannot be compared."""
    a, b = queries.configuration, sparse_map.configuration
    if a is None or b is None:
        return
    names = confs.name_of(a), confs.name_of(b)
    if names[0] != names[1]:
        raise ConfigurationError(
            f"{queries.path} holds {names[0]}, but the map was made with {names[1]} ({sparse_map.path}); "
            "extract the queries with the map's feature"
        )
    if a.get("weights") != b.get("weights"):
        raise ConfigurationError(
            f"{queries.path} and {sparse_map.path} hold {names[0]} with different weights "
            f"({str(a.get('weights'))[:12]} and {str(b.get('weights'))[:12]}); use the map's weights"
        )


def _problem(
    query: Query,
    retrieved: int,
    images: list[str],
    sparse: SparseMap,
    features: FeatureStore,
    matches: MatchStore,
) -> PoseProblem | Localized:
    """Read what one query needs, or say why it cannot be localized."""
    if query.name not in features:
        return Localized(query.name, reason=f"no features of this image in {features.path}")
    if not retrieved:
        return Localized(query.name, reason="no pair with an image of the map")
    if not images:
        return Localized(query.name, reason=f"none of its {retrieved} map images has a pose")
    size = features.image_size(query.name)
    if size != (query.camera.width, query.camera.height):
        return Localized(
            query.name,
            reason=f"its camera is for {query.camera.width}x{query.camera.height} pixels, "
            f"but the image is stored with {size[0]}x{size[1]}",
        )
    keypoints = features.keypoints(query.name)
    found = {image: matches.read(query.name, image, len(keypoints)) for image in images}
    return PoseProblem.of(query, keypoints, found, sparse)


class _Answer(Protocol):
    def result(self) -> Localized: ...


def _solve_all(
    problems: Iterator[PoseProblem | Localized], options: PoseOptions, records: Log, cluster: Cluster | None
) -> Iterator[tuple[str, Localized]]:
    """Solve side by side what the log does not have, in the order of the problems, a few ahead of the consumer."""
    threads = options.threads if options.threads > 0 else os.cpu_count() or 1
    ahead = 2 * (threads if cluster is None else max(1, cluster.slots()))
    waiting: deque[tuple[str, _Answer | Localized]] = deque()
    pool = ThreadPoolExecutor(threads)
    submit = pool.submit if cluster is None else cluster.submit
    try:
        for problem in problems:
            if isinstance(problem, Localized):
                waiting.append(("", problem))
            else:
                key = "" if records.path is None else problem.key(options)
                waiting.append((key, records.find(problem.query.name, key) or submit(problem.solve, options)))
            while len(waiting) > ahead:
                yield _done(*waiting.popleft())
        while waiting:
            yield _done(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _done(key: str, found: _Answer | Localized) -> tuple[str, Localized]:
    return key, found if isinstance(found, Localized) else found.result()


def _fall_back(found: Localized, retrieved: Sequence[str], sparse: SparseMap, options: PoseOptions) -> Localized:
    closest = next((image for image in retrieved if image in sparse), None)
    if found.localized or options.fallback is None or closest is None:
        return found
    return replace(found, cam_from_world=sparse.cam_from_world(closest), fallback=closest)
