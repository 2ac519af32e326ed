"""Rotated queries: localize them again with the image rotated, if there are few inliers.

Learned features are trained on upright images, and most of their matches are gone after a turn of 45 degrees.
Keypoints of a turned image are moved back to the pixels of the file, so that camera and pose are those of the query
as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from posfeat_hloc.confs import Conf
from posfeat_hloc.extract_features import extract
from posfeat_hloc.localization.localize import localize
from posfeat_hloc.localization.maps import SparseMap
from posfeat_hloc.localization.options import PoseOptions
from posfeat_hloc.localization.queries import Query
from posfeat_hloc.localization.results import Localized, amend_log
from posfeat_hloc.match_features import match
from posfeat_hloc.runtime.output import write_atomically
from posfeat_hloc.stores.pairs import Pair

ENOUGH = 50
"""A pose with so many inliers is believed without trying other turns."""

TURNS = (1, 2, 3)
"""Quarter turns clockwise that are tried, in this order."""


def is_certain(found: Localized) -> bool:
    """Whether a query needs no further rotation."""
    return found.localized and found.inliers >= ENOUGH


def better(found: Localized, other: Localized) -> Localized:
    """The one with more inliers among those that have a pose of their own; the first where both are equal."""
    return other if (other.localized, other.inliers * other.localized) > (found.localized, found.inliers) else found


@dataclass(frozen=True)
class TurnedInputs:
    """What queries are extracted, paired and matched with.

    Attributes:
        images: folder of the queries.
        queries: all of them.
        conf: of their features.
        matcher: conf of the matcher.
        pairs: gives (query, map image) pairs for queries after so many quarter turns.
        sparse: the map.
        map_features: file it was made from.
        masks: folder of masks of the queries.
        device: torch device.
        progress: show bars.
    """

    images: Path
    queries: Sequence[Query]
    conf: Conf
    matcher: Conf
    pairs: Callable[[int, list[str]], list[Pair]]
    sparse: SparseMap
    map_features: Path
    masks: Path | None = None
    device: str = "auto"
    progress: bool = True


def one_turned(
    inputs: TurnedInputs, found: Mapping[str, Localized], options: PoseOptions, output: Path
) -> tuple[str, int] | None:
    """Try all rotations of one query that is not localized, to detect rotated photographs.

    Args:
        inputs, options, output: as of :func:`retry_turned`.
        found: query name -> what became of it upright.

    Returns:
        the query and the turn in degrees clockwise that localizes it; None where none does.
    """
    failed = sorted((name for name, result in found.items() if not result.localized), key=lambda n: -found[n].matches)
    for name in failed[:1]:
        one = replace(inputs, queries=[query for query in inputs.queries if query.name == name])
        log = output / "turned" / "queries.jsonl"
        write_atomically(log, "")
        result = retry_turned(one, {name: found[name]}, options, log.parent, log)[name]
        if result.localized:
            return name, result.rotation
    return None


def retry_turned(
    inputs: TurnedInputs, found: Mapping[str, Localized], options: PoseOptions, output: Path, log: Path
) -> dict[str, Localized]:
    """Localize the uncertain queries again from rotated images; the rotation with most inliers is kept.

    Args:
        inputs: see :class:`TurnedInputs`.
        found: query name -> what became of it upright.
        options: the same as upright.
        output: gets a folder ``turned-90``, ... for each turn, with features, matches and a log, by which an
            interrupted run resumes.
        log: of the upright queries, in which the records of those that a turn helped are replaced.

    Returns:
        query name -> the best record, ``rotation`` degrees clockwise, in the same order.

    Raises:
        PosfeatError: see :func:`extract`, :func:`match` and :func:`localize`.
    """
    best = dict(found)
    alone = replace(options, fallback=None)  # a pose of the map is no match
    for quarters in TURNS:
        names = [name for name, result in best.items() if not is_certain(result)]
        if not names:
            break
        folder = output / f"turned-{90 * quarters}"
        features, matches = folder / "features.h5", folder / "matches.h5"
        folder.mkdir(parents=True, exist_ok=True)
        extracted = extract(
            inputs.conf, inputs.images, features, names, inputs.device,
            progress=inputs.progress, masks=inputs.masks, rot90=quarters,
        )  # fmt: skip
        pairs = inputs.pairs(quarters, extracted.names)
        match(inputs.matcher, pairs, features, matches, inputs.device, False, inputs.progress, inputs.map_features)
        queries = [query for query in inputs.queries if query.name in set(extracted.names)]
        again = localize(
            inputs.sparse, queries, pairs, features, matches, alone,
            folder / "queries.jsonl", inputs.map_features, inputs.progress,
        )  # fmt: skip
        for name, result in again.items():
            best[name] = better(best[name], replace(result, rotation=90 * quarters))
    amend_log(log, {name: result for name, result in best.items() if result.rotation})
    return best
