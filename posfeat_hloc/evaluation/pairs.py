"""Feature files of the images of an evaluation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from posfeat_hloc.detection.selection import strongest
from posfeat_hloc.extract_features import extract
from posfeat_hloc.extractors.choice import FeatureChoice
from posfeat_hloc.features import Features, Matches
from posfeat_hloc.images.loader import fingerprint
from posfeat_hloc.matchers import check_suits, create, match, trained_for
from posfeat_hloc.runtime.computation import choose_device
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.runtime.text_files import JsonLines
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.stores.foreign import check_sizes
from posfeat_hloc.stores.pairs import Pair


def feature_file(
    choice: FeatureChoice, images: Path, names: Sequence[str], folder: Path, device: str, progress: bool
) -> tuple[Path, dict[str, str]]:
    """The file with the features of some images, extracted where they are not there yet.

    Returns:
        the path, and image name -> why it has no features.
    """
    if choice.conf is None:
        assert choice.file is not None
        with FeatureStore(choice.file) as store:
            store.require(names, f"of {len(names)} images are missing")
            check_sizes(store, images, names)
        return choice.file, {}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{choice.stem}.h5"
    report = extract(choice.conf, images, path, names, device, progress=progress)
    return path, report.skipped


Measured = dict[str, Any]
"""What was measured on a pair; plain numbers and lists, as JSON holds them."""


def measure_pairs(
    features: Path,
    pairs: Sequence[Pair],
    measure: Callable[[int, Features, Features, Matches], Measured],
    settings: Sequence[str],
    matcher: dict[str, Any],
    record: Path,
    top_k: int | None = None,
    device: str = "auto",
    label: str = "",
    progress: bool = True,
) -> list[Measured]:
    """Match each pair and measure it; matches are not stored, results are.

    A pair whose features, settings and matcher are those of an earlier run is taken from ``record``, to which every
    result is added at once: a killed run loses one pair.

    Args:
        features: HDF5 file of ours or hloc's.
        pairs: image names.
        measure: called with the number of the pair, the features of both images and their matches.
        settings: for each pair, what its result depends on besides features and matches (the truth, options).
        matcher: the ``model`` entry of a conf.
        record: text file, one JSON object a line.
        top_k: keep the keypoints with the highest scores only.
        label: named by the progress bar.

    Returns:
        what ``measure`` returned, in the order of ``pairs``.

    Raises:
        ConfigurationError: a matcher or device that does not exist.
        StoreError: the file is damaged or lacks an image of the pairs.
    """
    target = choose_device(device)
    matching = create(matcher)
    with FeatureStore(features) as store:
        names = sorted({name for pair in pairs for name in pair})
        store.require(names, f"of {len(names)} images are missing")
        check_suits(trained_for(matching), store.configuration, features)
        foreign = fingerprint(features)  # hloc's files hold no digests
        digests = {name: store.digest(name) or foreign for name in names}
        read = lru_cache(maxsize=4)(lambda name: strongest_features(store.read(name), top_k))
        known = _read_record(record)
        results = []
        with JsonLines(record) as log:
            for number, (a, b) in enumerate(Bar(pairs, desc=label, unit="pair", disable=not progress)):
                key = _key([a, b, digests[a], digests[b], settings[number], matcher, top_k])
                if key not in known:
                    sizes = (store.image_size(a), store.image_size(b))
                    known[key] = measure(number, read(a), read(b), match(matching, read(a), read(b), target, sizes))
                    log.add({"key": key, "measured": known[key]})
                results.append(known[key])
    return results


def strongest_features(features: Features, count: int | None) -> Features:
    """The ``count`` keypoints with the highest scores, in their order; all of them when ``count`` is None."""
    if count is None or len(features) <= count:
        return features
    kept = np.sort(strongest(features.scores, count))
    return Features(features.keypoints[kept], features.scores[kept], features.descriptors[kept])


def _read_record(path: Path) -> dict[str, Measured]:
    """Results of earlier runs; lines that a killed run left incomplete are measured again."""
    known: dict[str, Measured] = {}
    if not path.exists():
        return known
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            known[entry["key"]] = entry["measured"]
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return known


def _key(parts: list[Any]) -> str:
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=12).hexdigest()
