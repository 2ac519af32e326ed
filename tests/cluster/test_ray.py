"""A cluster of two workers on this machine gives what one process gives, also when a worker is killed."""

import json
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipelines import sfm
from posfeat_hloc import confs
from posfeat_hloc.cluster import Cluster, connect
from posfeat_hloc.cluster import cluster as cluster_module
from posfeat_hloc.errors import ClusterError, WeightsError
from posfeat_hloc.extract_features import extract
from posfeat_hloc.localization.localize import localize
from posfeat_hloc.localization.options import PoseOptions
from posfeat_hloc.match_features import match
from posfeat_hloc.sfm.pairs import exhaustive_pairs
from tests.localization.scenes import look, make_scene
from tests.rendering import write_scene

pytest.importorskip("ray", reason="Ray is not installed (pip install posfeat-hloc[ray])")

CONF = {
    "output": "feats",
    "model": {**confs.extractors["d2d-hardnet-subpixel"]["model"], "max_keypoints": 300},
    "preprocessing": {**confs.extractors["d2d-hardnet-subpixel"]["preprocessing"], "resize_max": 160},
}


@pytest.fixture(scope="module")
def cluster():
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default of 15 starves workers where others work, too
    found = connect("local:2")
    yield found
    found.close()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_scene(folder, 5)
    (folder / "below").mkdir()
    shutil.copy(folder / "view_02.png", folder / "below" / "a view.png")
    (folder / "broken.png").write_bytes((folder / "view_00.png").read_bytes()[:500])
    return folder


@pytest.fixture(scope="module")
def single(photos, tmp_path_factory):
    return stores(photos, tmp_path_factory.mktemp("single"), None)


def stores(photos, folder, cluster):
    """Extract and match; both reports."""
    extraction = extract(CONF, photos, folder / "features.h5", device="cpu", progress=False, cluster=cluster)
    pairs = exhaustive_pairs(extraction.names)
    matching = match(
        confs.matchers["NN-mutual"], pairs, folder / "features.h5", folder / "matches.h5", "cpu", progress=False,
        cluster=cluster,
    )  # fmt: skip
    return folder, extraction, matching


def contents(path):
    """Every dataset and attribute of a file, as bytes."""
    found = {}

    def look(name, item):
        for key, value in item.attrs.items():
            found[name, key] = np.asarray(value).tolist()
        if isinstance(item, h5py.Dataset):
            found[name] = (item.dtype, item.shape, item[()].tobytes())

    with h5py.File(path) as file:
        look("", file)
        file.visititems(look)
    return found


class Murderous(Cluster):
    """A cluster in which the worker that gets the second shard is killed, once."""

    def __init__(self, ray, marker):
        super().__init__(ray)
        self.marker, self.count = marker, 0

    def submit(self, function, *args, gpu=False):
        self.count += 1
        if self.count == 2:
            function = partial(kill_first, str(self.marker), function)
        return super().submit(function, *args, gpu=gpu)


def kill_first(marker, function, *args):
    if not Path(marker).exists():
        Path(marker).write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*args)


def test_stores_are_equal_to_the_last_bit(cluster, photos, single, tmp_path):
    folder, extraction, matching = stores(photos, tmp_path, cluster)
    assert matching.matched == 15
    assert extraction == single[1]  # names, notes, and what was skipped, in the same words
    assert list(extraction.skipped) == ["broken.png"]
    for name in ("features.h5", "matches.h5"):
        expected = contents(single[0] / name)
        assert len(expected) > 20
        assert contents(folder / name) == expected


def test_a_killed_worker_changes_nothing(cluster, photos, single, tmp_path):
    for stage in ("features", "matches"):
        murderous = Murderous(cluster._ray, tmp_path / f"killed-{stage}")
        if stage == "features":
            extract(CONF, photos, tmp_path / "features.h5", device="cpu", progress=False, cluster=murderous)
        else:
            pairs = exhaustive_pairs(single[1].names)
            match(confs.matchers["NN-mutual"], pairs, tmp_path / "features.h5", tmp_path / "matches.h5", "cpu",
                  progress=False, cluster=murderous)  # fmt: skip
        assert int(murderous.marker.read_text()) != os.getpid()
        assert contents(tmp_path / f"{stage}.h5") == contents(single[0] / f"{stage}.h5")


def test_finished_work_is_not_sent_again(cluster, photos, single, tmp_path):
    shutil.copy(single[0] / "features.h5", tmp_path)
    found = extract(CONF, photos, tmp_path / "features.h5", device="cpu", progress=False, cluster=cluster)
    assert (found.extracted, found.reused) == ([], single[1].names)


@pytest.mark.parametrize("clustering", [False, True])
def test_poses_are_equal(cluster, tmp_path, clustering):
    scene = make_scene(tmp_path, {f"map{i}": look(i - 1.0) for i in range(3)}, {f"q{i}": look(i / 4) for i in range(5)})
    options = PoseOptions(covisibility_clustering=clustering)
    given = scene.model, scene.queries, scene.pairs, scene.features, scene.matches, options
    here, there = (localize(*given, progress=False, cluster=where) for where in (None, cluster))
    assert list(here) == list(there) == scene.names
    for name, pose in here.items():
        assert pose.localized
        assert {**pose.as_dict(), "seconds": 0} == {**there[name].as_dict(), "seconds": 0}


def test_the_number_of_tasks_in_flight_is_bounded(cluster):
    taken = []

    def shards():
        for i in range(40):
            taken.append(i)
            yield i

    results = cluster.map(abs, shards())
    for i, result in enumerate(results):
        assert result == i
        assert len(taken) <= i + 2 * cluster.slots()
    assert cluster.slots() == 2
    assert len(taken) == 40


def test_the_command_gives_the_same_model(cluster, photos, tmp_path):
    found = []
    for name, options in (("single", []), ("cluster", ["--ray", "local:2"])):
        output = tmp_path / name
        command = ["--images", photos, "--output", output, "--feature", "sift", "--threads", "1", "--quiet", *options]
        assert sfm.main(list(map(str, command))) == 0
        found.append(json.loads((output / "summary.json").read_text()))
    assert found[0]["model"]["points"] > 100
    for key in ("registered", "pairs", "verified_pairs", "skipped"):
        assert found[0][key] == found[1][key]
    for key in ("points", "reprojection_error", "track_length"):
        assert found[0]["model"][key] == found[1]["model"][key]


def test_errors_of_workers_arrive_as_they_are(cluster, photos, tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match="other weights of d2d"):
        list(cluster.extract(CONF, photos, ["view_00.png"], "cpu", "0123"))
    with pytest.raises(ZeroDivisionError):  # a fault of ours keeps its traceback
        cluster.submit(divmod, 1, 0).result()
    monkeypatch.setattr(cluster_module, "versions", lambda: {"posfeat_hloc": "0.0.1", "torch": "2.0"})
    with pytest.raises(ClusterError, match=r"a worker has posfeat_hloc .*but this machine posfeat_hloc 0\.0\.1"):
        cluster.submit(abs, -1).result()


def test_a_task_that_always_dies_ends_the_run(cluster, monkeypatch):
    with pytest.raises(ClusterError, match="a task failed 4 times"):
        cluster.submit(os._exit, 1).result()
