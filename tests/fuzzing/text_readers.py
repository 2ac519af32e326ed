"""Lists, tables and logs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pycolmap

from posfeat_hloc.evaluation.pairs import _read_record
from posfeat_hloc.evaluation.posed_lists import read_posed_pairs
from posfeat_hloc.evaluation.poses import read_strecha_cameras
from posfeat_hloc.evaluation.sequences import read_homography
from posfeat_hloc.extract_features import read_names
from posfeat_hloc.localization.maps import open_map
from posfeat_hloc.localization.queries import read_queries
from posfeat_hloc.localization.results import Localized, Log, read_results
from posfeat_hloc.stores.pairs import read_pairs
from posfeat_hloc.training.loop import RunFolder
from posfeat_hloc.training.megadepth import read_dense_folder
from tests.fuzzing.readers import Files, Reader, files_of
from tests.fuzzing.store_readers import write_features

NAMES = ["a b.jpg", "db/1.jpg", "db/é.jpg"]
_POSE = " ".join(map(str, np.eye(4).ravel().tolist()))
_K = "400 0 200 0 400 150 0 0 1"


def readers() -> list[Reader]:
    pose = pycolmap.Rigid3d()
    records = [Localized("a.jpg", pose, 20, 15, 400.0, ("db/1.jpg",), 1, 0.1), Localized("é.jpg", reason="none")]
    log = "".join(json.dumps({**r.as_dict(), "key": "k"}, ensure_ascii=False) + "\n" for r in records)
    camera = "400 0 200\n0 400 150\n0 0 1\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n1 2 3\n400 300\n"
    dense = (
        "1.jpg 640 480 500 500 320 240 1 0 0 0 1 0 0 0 1 0 0 0\n2.jpg 640 480 500 500 320 240 1 0 0 0 1 0 0 0 1 1 0 0\n"
    )
    return [
        _text("pairs", "# list\na b.jpg db/1.jpg\ndb/1.jpg db/é.jpg\n", lambda p: read_pairs(p, NAMES)),
        _text("pairs of any images", "a.jpg db/1.jpg\ndb/1.jpg db/é.jpg\n", read_pairs),
        _text("image names", "a b.jpg\n# x\ndb/é.jpg\n", lambda path: read_names(path, path.parent)),
        _text("queries", "a b.jpg PINHOLE 400 300 420 420 200 150\né.jpg SIMPLE_RADIAL 400 300 420.5 200 150 -0.1\n",
              read_queries),
        _text("poses", "a b.jpg 1 0 0 0 1 2 3\né.jpg 0.5 0.5 0.5 0.5 -1e3 2 3\n", read_results),
        _text("log of queries", log, _log),
        _text("log of pairs", '{"key": "a", "measured": {"x": 1}}\n{"key": "b", "measured": {}}\n', _read_record),
        _text("homography", "1.1 0.2 30\n-0.1 0.9 4\n1e-5 1e-6 1\n", read_homography),
        _text("Strecha's cameras", camera, lambda p: read_strecha_cameras(p.parent), "0000.png.camera"),
        _text("posed pairs", f"a.jpg b.jpg 0 1 {_K} {_K} {_POSE}\n", read_posed_pairs),
        Reader("scene_info", [files_of(_scene_info), files_of(_scene_info_of_objects)],
               lambda folder: read_posed_pairs(folder / "s.npz")),
        Reader("MegaDepth", [{"img_cam.txt": dense.encode(), "pairs.txt": b"1.jpg 2.jpg\n", "images/1.jpg": b"",
                              "images/2.jpg": b""}], read_dense_folder, beside=("images/1.jpg", "images/2.jpg")),
        Reader("summary of a map", [_map()], open_map, beside=("features.h5", "images.bin")),
        _text("log of training", '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n',
              lambda p: RunFolder(p.parent, {})._drop_lines_after(1), "log.jsonl"),
    ]  # fmt: skip


def _text(name: str, text: str, read: object, file: str = "list.txt") -> Reader:
    return Reader(name, [{file: text.encode()}], lambda folder: read(folder / file))  # type: ignore[operator]


def _log(path: Path) -> None:
    with Log(path) as log:
        log.find("a.jpg", "k")
        log.finish()


def _map() -> Files:
    summary = {"command": {"images": "photos", "weights": None, "feature": "sift"}}
    features = files_of(write_features)["f.h5"]
    return {"features.h5": features, "images.bin": b"", "summary.json": json.dumps(summary).encode()}


def _arrays() -> dict[str, np.ndarray]:
    matrices = np.stack([np.eye(4), np.eye(4)])
    return {"image_paths": np.array(["a.jpg", "b.jpg"]), "intrinsics": matrices[:, :3, :3], "poses": matrices,
            "pair_infos": np.array([[0, 1]])}  # fmt: skip


def _scene_info(folder: Path) -> None:
    np.savez(folder / "s.npz", **_arrays())


def _scene_info_of_objects(folder: Path) -> None:
    """As LoFTR's files are: arrays of Python objects, so pickles."""
    arrays = _arrays()
    info = np.empty(1, object)
    info[0] = ((0, 1), 0.3, np.array([1, 2]))
    poses = np.empty(2, object)
    poses[:] = list(arrays["poses"])
    names = np.array(["a.jpg", "b.jpg"], object)
    np.savez(folder / "s.npz", **{**arrays, "pair_infos": info, "poses": poses, "image_paths": names})
