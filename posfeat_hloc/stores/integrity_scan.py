"""Read an HDF5 file group by group, and report damage; run in a separate process.

HDF5 may crash or loop for ever on a damaged file, so each step is announced before it is taken: whoever listens
(:mod:`posfeat_hloc.stores.integrity_check`) knows where it ended. Steps are groups (``group <name>``) and lists of
groups (``list <name>/``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.stores.hdf5 import CHECKSUM, CONFIGURATION, content_digest, read_text, read_texts

Say = Callable[..., None]

ERRORS = (KeyError, OSError, RuntimeError, TypeError, ValueError, OverflowError, MemoryError, AttributeError)
"""What h5py raises of damaged files."""

_EXPANSION = 1000  # no compressed array is this many times as large as its file


class Damaged(Exception):
    """Damage of a group."""


def examine(path: Path, features: list[Path], skip: Collection[str], say: Say) -> None:
    """Announce and take every step but those in ``skip``.

    ``say("begin", step)`` comes before a step, ``say("end", step, kind, problem)`` after that of a group, with an empty
    problem where it is intact; ``say("damaged", where, problem)`` tells of lists of groups and of the configuration.
    """
    say("begin", "open")
    with h5py.File(path, "r") as file:
        known = _Features(features)
        say("begin", "configuration")
        try:
            json.loads(read_text(file, CONFIGURATION) or "{}")
        except ERRORS as error:
            say("damaged", "configuration", _short(error))
        for name, item in _groups(file, skip, say):
            step = f"group {name}"
            if step in skip:
                continue
            say("begin", step)
            try:
                kind, problem = _examine(name, item, known, path.stat().st_size), ""
            except Damaged as error:
                kind, problem = "", str(error)
            except ERRORS as error:
                kind, problem = "", f"cannot be read ({_short(error)})"
            say("end", step, kind, problem)


def salvage(path: Path, target: Path, names: list[str], say: Say) -> None:
    """Copy the attributes of a file and these groups of it into a new file."""
    with h5py.File(path, "r") as source, h5py.File(target, "w") as file:
        say("begin", "attributes")
        for key in source.attrs:
            try:
                file.attrs[key] = source.attrs[key]
            except ERRORS:
                continue  # it is on the list of what is damaged
        for name in names:
            say("begin", f"group {name}")
            parent, _, key = name.rpartition("/")
            source.copy(source[name], file.require_group(parent) if parent else file, key)


def _groups(file: h5py.File, skip: Collection[str], say: Say) -> Iterator[tuple[str, h5py.Group]]:
    """All groups that hold data or nothing at all, with their names; folders of groups are only walked through."""
    waiting: list[tuple[str, h5py.Group]] = [("", file)]
    while waiting:
        prefix, group = waiting.pop()
        step = f"list {prefix}"
        if step in skip:
            continue
        say("begin", step)
        members: list[tuple[str, h5py.Group]] = []
        try:
            for key in group:
                name = f"{prefix}{key}"
                name.encode()
                item = group.get(key)
                if item is None:
                    say("damaged", name, "cannot be opened")
                elif isinstance(item, h5py.Group):
                    members.append((name, item))
        except ERRORS as error:
            say("damaged", f"the list of groups in {prefix or '/'}", _short(error))
        for name, item in members:
            kinds = _members(item)
            if "data" in kinds or not kinds:
                yield name, item
            if kinds != {"data"}:
                waiting.append((f"{name}/", item))


def _members(group: h5py.Group) -> set[str]:
    """Whether a group holds ``data``, ``groups``, both or nothing; both where that cannot be told."""
    try:
        return {"groups" if isinstance(group.get(key), h5py.Group) else "data" for key in group}
    except ERRORS:
        return {"data", "groups"}


def _examine(name: str, group: h5py.Group, known: _Features, file_size: int) -> str:
    """Kind of a group whose data are intact; raises Damaged or what h5py raises."""
    arrays = {}
    for key in group:
        item = group[key]
        if isinstance(item, h5py.Dataset):
            if item.nbytes > file_size * (1 if item.chunks is None else _EXPANSION):
                raise Damaged(f"{key} claims {item.nbytes} bytes, more than the file has")
            arrays[key] = item[()]
    for attribute in group.attrs:
        _ = group.attrs[attribute]
    if not arrays:
        if read_texts(group, "names") == []:
            return "matches"  # holds the place of two pairs that would share a key
        raise Damaged("is empty")
    if "global_descriptor" in arrays:
        return _examine_global(arrays, group)
    if "matches0" in arrays or "matching_scores0" in arrays:
        return _examine_matches(name, arrays, group, known)
    if "keypoints" in arrays or "descriptors" in arrays:
        return _examine_features(arrays, group)
    return "unknown data"


def _examine_features(arrays: dict[str, NDArray[Any]], group: h5py.Group) -> str:
    _need(arrays, "keypoints", "descriptors", "image_size")
    keypoints, descriptors, size = arrays["keypoints"], arrays["descriptors"], arrays["image_size"]
    scores = arrays.get("scores", arrays.get("keypoint_scores", np.zeros(len(keypoints))))
    if keypoints.ndim != 2 or keypoints.shape[1] < 2 or descriptors.ndim != 2 or scores.ndim != 1:
        raise Damaged(f"keypoints {keypoints.shape}, descriptors {descriptors.shape}, scores {scores.shape}")
    if not len(keypoints) == len(scores) == descriptors.shape[1]:
        raise Damaged(f"{len(keypoints)} keypoints, {descriptors.shape[1]} descriptors and {len(scores)} scores")
    if size.shape != (2,) or not (size > 0).all():
        raise Damaged(f"an image of {' x '.join(map(str, size.ravel()[:4].tolist()))} pixels")
    _need_finite({"keypoints": keypoints, "descriptors": descriptors, "scores": scores})
    _ = dict(group["keypoints"].attrs)
    _compare(group, "digest", keypoints, descriptors.T)
    outside = np.abs(keypoints[:, :2] - size / 2).max(axis=0, initial=0) > size / 2 + 2 + 0.01 * size.max()
    if outside.any():
        raise Damaged("keypoints lie outside of the image")
    return "features"


def _examine_matches(name: str, arrays: dict[str, NDArray[Any]], group: h5py.Group, known: _Features) -> str:
    _need(arrays, "matches0", "matching_scores0")
    indices, scores = arrays["matches0"], arrays["matching_scores0"]
    if indices.ndim != 1 or indices.shape != scores.shape or indices.dtype.kind != "i":
        raise Damaged(f"matches {indices.shape} {indices.dtype} and scores {scores.shape}")
    if indices.min(initial=0) < -1:
        raise Damaged(f"an index of {indices.min()}")
    _need_finite({"scores": scores})
    _compare(group, CHECKSUM, indices, scores)
    counts = known.counts(name, read_texts(group, "names"))
    if counts is not None and len(indices) != counts[0]:
        raise Damaged(f"matches of {len(indices)} keypoints, but the features have {counts[0]}")
    if counts is not None and indices.max(initial=-1) >= counts[1]:
        raise Damaged(f"an index of {indices.max()}, but the features have {counts[1]} keypoints")
    return "matches"


def _examine_global(arrays: dict[str, NDArray[Any]], group: h5py.Group) -> str:
    descriptor = arrays["global_descriptor"]
    if descriptor.size == 0:
        raise Damaged("an empty global descriptor")
    _need_finite(arrays)
    _compare(group, CHECKSUM, descriptor)
    return "global descriptors"


def _need(arrays: dict[str, NDArray[Any]], *keys: str) -> None:
    if missing := [key for key in keys if key not in arrays]:
        raise Damaged(f"has no {' and no '.join(missing)}")


def _need_finite(arrays: dict[str, NDArray[Any]]) -> None:
    for key, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise Damaged(f"{key} are no numbers ({array.dtype})")
        if not np.isfinite(array).all():
            raise Damaged(f"{key} are not finite")


def _compare(group: h5py.Group, attribute: str, *arrays: NDArray[Any]) -> None:
    """Compare data with the digest that was stored with them, where one was (hloc stores none)."""
    stored = read_text(group, attribute)
    if stored and stored != content_digest(*arrays):
        raise Damaged("the data are not those that were written (checksum)")


class _Features:
    """Numbers of keypoints in feature files: one file for both images of a pair, or two."""

    def __init__(self, paths: list[Path]) -> None:
        self.files = [h5py.File(path, "r") for path in paths]
        self.names: list[dict[str, str]] = []
        for file in self.files:
            names: list[str] = []
            file.visit(names.append)
            images = [name.removesuffix("/keypoints") for name in names if name.endswith("/keypoints")]
            self.names.append({name.replace("/", "-"): name for name in images})

    def counts(self, key: str, names: list[str] | None) -> tuple[int, int] | None:
        """Keypoints of both images of a pair; None without feature files, or where they do not know an image."""
        if not self.files:
            return None
        both = names if names is not None and len(names) == 2 else key.split("/")
        if len(both) != 2:
            return None
        result = []
        for file, table, name in ((self.files[0], self.names[0], both[0]), (self.files[-1], self.names[-1], both[1])):
            stored = table.get(name.replace("/", "-"))
            if stored is None:
                return None
            result.append(len(file[stored]["keypoints"]))
        return result[0], result[1]


def _short(error: BaseException) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__


def _say(*words: str) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Do what the first line of standard input asks for, as JSON."""
    order = json.loads(sys.stdin.readline())
    _say("begin", "open")
    path = Path(order["path"])
    try:
        if "target" in order:
            salvage(path, Path(order["target"]), order["names"], _say)
        else:
            examine(path, [Path(p) for p in order["features"]], set(order["skip"]), _say)
        _say("done")
    except BlockingIOError:
        _say("failed", "in use by another process; wait for it")
    except ERRORS as error:
        _say("failed", _short(error))


if __name__ == "__main__":
    main()
