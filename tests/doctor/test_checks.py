"""Hardware, weights, files and the self-test: right where all checks passed, and not where something is broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
import torch

from posfeat_hloc import weights
from posfeat_hloc.doctor import checks, self_test
from posfeat_hloc.evaluation.poses import PoseErrors, TrueCamera
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.stores import FeatureStore


def statuses() -> dict[str, str]:
    return {label: check().status for label, check in checks.weight_checks()}


def test_weights_of_the_package_and_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    assert statuses() == dict.fromkeys([*weights.BUNDLED, "others, public"], "ok")
    assert checks.weight_checks()[-1][1]().text.startswith(f"{len(weights.PUBLIC)} not downloaded")
    path = weights.public_path("sosnet-liberty")
    path.parent.mkdir()
    path.write_bytes(b"broken")
    assert statuses()["sosnet-liberty"] == "warn"
    assert checks.weight_checks()[-1][1]().text.startswith(f"{len(weights.PUBLIC) - 1} not downloaded")
    monkeypatch.setitem(weights.BUNDLED, "hardnet", weights.Bundled(weights.BUNDLED["hardnet"].file, "0" * 64))
    assert statuses()["hardnet"] == "fail"
    assert "were altered" in checks.check_bundled("hardnet").text


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    assert checks.check_threads().text == "8 of torch on 8 cores; waiting threads sleep"
    assert checks.check_threads().status == "ok"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert checks.check_threads().status == "ok"  # one thread is right on a busy machine
    assert "set by OMP_NUM_THREADS=1" in checks.check_threads().text
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    finding = checks.check_threads()
    assert (finding.status, finding.remedy) == ("warn", "unset OMP_WAIT_POLICY")
    assert "OMP_WAIT_POLICY=active keeps waiting threads busy" in finding.text


def test_a_driver_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert checks.check_without_cuda().status == "ok"
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setattr("torch.version.cuda", None)
    finding = checks.check_without_cuda()
    assert (finding.status, "torch is built without CUDA" in finding.text) == ("warn", True)


def test_a_gpu_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: no kernel image\nmore")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some GPU")
    monkeypatch.setattr(torch, "arange", broken)
    (label, check), _ = checks.device_checks()
    assert label == "CUDA 0"
    assert check().status == "fail"
    assert check().text == "Some GPU cannot be used (CUDA error: no kernel image)"


def test_files(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.check_features().status == "ok"
    assert checks.check_database().status == "ok"
    read = FeatureStore.keypoints
    monkeypatch.setattr(FeatureStore, "keypoints", lambda store, name: read(store, name) + np.float32(0.5))
    assert checks.check_features().text == "the values read differ from those written"
    monkeypatch.setattr(pycolmap.Database, "read_camera", lambda *_: pycolmap.Camera(model="PINHOLE", width=2))
    assert checks.check_database().status == "fail"


def test_a_database_of_another_pycolmap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pycolmap.Database, "write_camera")
    finding = checks.check_database()
    assert finding.status == "fail"
    assert "AttributeError" in finding.text


def test_files_without_a_place_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def __enter__(self) -> str:
            return "/dev/null/folder"

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(checks, "TemporaryDirectory", Gone)
    finding = checks.check_features()
    assert finding.status == "fail"
    assert "TMPDIR" in finding.remedy


def test_the_self_test_sees_what_is_true_and_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test.confs, "DEFAULT_FEATURE", "sift")  # the same path in a second
    models, before = [], pycolmap.logging.minloglevel

    def kept(path: Path) -> pycolmap.Reconstruction:
        models.append(read_model(path))
        return models[0]

    monkeypatch.setattr(self_test, "read_model", kept)
    finding = self_test.run()
    assert finding.status == "ok", finding.text
    assert finding.text.startswith("4 of 4 views placed")
    assert pycolmap.logging.minloglevel == before

    true = self_test.truth
    turn = np.array([[np.cos(0.02), -np.sin(0.02), 0], [np.sin(0.02), np.cos(0.02), 0], [0, 0, 1]])

    def mistaken(cameras: Any) -> dict[str, TrueCamera]:
        found = true(cameras)
        name = next(iter(found))
        return found | {name: TrueCamera(turn @ found[name].rotation, found[name].centre)}

    monkeypatch.setattr(self_test, "_reconstruct", lambda *_: Path())
    monkeypatch.setattr(self_test, "read_model", lambda _: models[0])
    assert self_test.run().status == "ok"
    monkeypatch.setattr(self_test, "truth", mistaken)
    finding = self_test.run()
    assert finding.status == "fail"
    assert "constraints.txt" in finding.remedy


@pytest.mark.parametrize(
    ("count", "rotation", "position", "status"),
    [(4, 0.49, 0.0, "ok"), (4, 0.51, 0.0, "fail"), (4, 0.1, 0.019, "ok"), (4, 0.1, 0.021, "fail"), (3, 0, 0, "fail")],
)
def test_the_bounds(count: int, rotation: float, position: float, status: str) -> None:
    cameras = self_test.arc(4)
    centres = np.array([-camera.R.T @ camera.t for camera in cameras])
    length = np.linalg.norm(np.diff(centres, axis=0), axis=1).sum()
    errors = PoseErrors(
        [str(i) for i in range(count)], np.linspace(0, rotation, count), np.linspace(position * length, 0, count)
    )
    assert self_test.judge(errors, cameras, 1.0).status == status


def test_a_scene_without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test.confs, "DEFAULT_FEATURE", "sift")
    monkeypatch.setattr(self_test, "render", lambda _, camera: np.zeros((camera.size[1], camera.size[0], 3), np.uint8))
    finding = self_test.run()
    assert finding.status == "fail"
    assert "no model" in finding.text
