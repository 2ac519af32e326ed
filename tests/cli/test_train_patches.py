"""The training command from photographs to a file of weights, and what it says when it cannot."""

import argparse
import hashlib
import json
import re
import zlib
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
import torch

from pipelines import train_patches
from posfeat_hloc import weights
from posfeat_hloc.cli.train import TrainPatches
from posfeat_hloc.training import patch_descriptors
from posfeat_hloc.weights.loading import load_l2net
from tests.networks.test_l2net import as_tensor, calibrated_network, textured_image
from tests.training.test_views import photograph

SMALL = ["--steps", "2", "--pairs", "1", "--points", "24", "--validation-pairs", "2"]


def file_names(prefix: str, training: int, held_out: int) -> list[str]:
    """Names of which so many fall into the training and the held-out part."""
    wanted = {False: training, True: held_out}
    names = []
    for number in range(1000):
        name = f"{prefix}{number:03}.png"
        part = zlib.crc32(name.encode()) % 10 == 0
        if wanted[part] > 0:
            wanted[part] -= 1
            names.append(name)
    return names


def write_photographs(folder: Path, training: int = 2, held_out: int = 1, prefix: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(file_names(prefix, training, held_out)):
        cv2.imwrite(str(folder / name), photograph(240, 260, seed))
    return folder


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs"))


def run(photographs: Path, output: Path, *more: str) -> int:
    return train_patches.main(["--photos", str(photographs), "--output", str(output), *SMALL, *more])


def test_from_photographs_to_weights_and_again(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    assert run(photographs, output, "--window", "17") == 0
    path = output / "weights.safetensors"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"wrote {path} (SHA-256 {digest})" in capsys.readouterr().out
    assert weights.load(str(path)).metadata == {
        "architecture": "hardnet",
        "window": "17",
        "eps": "0.01",
        "form": "dense",
        "steps": "2",
    }
    network, loaded_digest = load_l2net("hardnet", str(path))
    assert loaded_digest == digest
    assert (network.window, network.eps) == (17, 0.01)
    with torch.inference_mode():
        assert network(as_tensor(textured_image(60, 60))).std() > 0.01
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["sha256"] == digest
    assert 0 <= metrics["accuracy_dense"] <= 1

    # the weights are those of the last checkpoint, in half precision
    trained = torch.load(output / "checkpoint.pt", weights_only=True)
    assert trained["step"] == 2
    for name, tensor in network.published().items():
        assert torch.equal(tensor.half(), trained["network"][name].half())

    # the same command finds nothing left to do and writes the same file
    path.unlink()
    assert run(photographs, output, "--window", "17") == 0
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert len((output / "log.jsonl").read_text().splitlines()) == 3

    # another window is another run
    assert run(photographs, output, "--window", "33") == 1
    assert "other options (window)" in capsys.readouterr().err


def test_a_run_starts_from_given_weights(photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    initial = tmp_path / "initial.safetensors"
    weights.save(initial, calibrated_network("sosnet").published(), {})
    still = ["--form", "patches", "--learning-rate", "0"]
    assert run(photographs, tmp_path / "run", "--init", str(initial), *still) == 0
    start, end = (weights.load(str(path)).tensors for path in (initial, tmp_path / "run" / "weights.safetensors"))
    assert torch.equal(end["features.0.weight"], start["layers.1.weight"])
    assert torch.equal(end["features.19.weight"], start["layers.20.weight"])
    capsys.readouterr()
    assert run(photographs, tmp_path / "run", *still) == 1  # another start is another run
    assert "other options (start)" in capsys.readouterr().err
    assert run(photographs, tmp_path / "other", "--init", str(tmp_path / "missing.pth")) == 1
    assert "missing.pth': neither a file nor a known name" in capsys.readouterr().err


def test_a_stopped_run_goes_on(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--architecture", "sosnet", "--form", "patches", "--steps", "3"]
    assert run(photographs, tmp_path / "whole", *options) == 0
    train_step = patch_descriptors.PatchTrainer.train_step

    def stopped(trainer: patch_descriptors.PatchTrainer) -> float:
        if trainer.step == 2:
            trainer.save()  # as at a validation step
            raise KeyboardInterrupt
        return train_step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(patch_descriptors.PatchTrainer, "train_step", stopped)
        assert run(photographs, tmp_path / "parts", *options) == 130
    assert "run the same command again to resume" in capsys.readouterr().err
    assert not (tmp_path / "parts" / "weights.safetensors").exists()
    assert run(photographs, tmp_path / "parts", *options) == 0
    whole, parts = (weights.load(str(tmp_path / run_ / "weights.safetensors")) for run_ in ("whole", "parts"))
    assert whole.sha256 == parts.sha256
    assert whole.metadata["architecture"] == "sosnet"


def test_photographs_and_a_model(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pycolmap.set_random_seed(0)
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=4, num_points3D=900, camera_width=640, camera_height=480,
        camera_model_id=pycolmap.CameraModelId.SIMPLE_PINHOLE, camera_params=[640.0, 320.0, 240.0],
    )  # fmt: skip
    model = pycolmap.synthesize_dataset(options)
    names = file_names("view", 4, 0)
    for image, name in zip(model.images.values(), names, strict=True):
        image.name = name
        (tmp_path / "images").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / name), photograph(480, 640, 1))
    (tmp_path / "model").mkdir()
    model.write(tmp_path / "model")
    mixes = []
    original = patch_descriptors.RandomMix
    monkeypatch.setattr(patch_descriptors, "RandomMix", lambda sources: mixes.append(original(sources)) or mixes[-1])
    arguments = ["--model", str(tmp_path / "model"), str(tmp_path / "images"), "--synthetic-share", "0.75"]
    assert run(photographs, tmp_path / "run", *arguments, "--steps", "1", "--form", "patches") == 0
    assert f"{tmp_path / 'model'}: 6 training image pairs" in capsys.readouterr().out
    held_out, training = mixes
    assert [type(source).__name__ for source in training.sources] == ["SyntheticSource", "ColmapSource"]
    assert training.probabilities.tolist() == [0.75, 0.25]
    assert [type(source).__name__ for source in held_out.sources] == ["SyntheticSource"]


def test_no_photograph_is_both_trained_on_and_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = write_photographs(tmp_path / "a", 3, 2), write_photographs(tmp_path / "b", 4, 1)
    parts: list[list[np.ndarray]] = []
    monkeypatch.setattr(patch_descriptors, "SyntheticSource", lambda images, *_: parts.append(images))
    arguments = ["--photos", str(first), str(second), "--output", str(tmp_path / "run"), "--validation-pairs", "0"]
    monkeypatch.setattr(patch_descriptors, "PatchTrainer", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert train_patches.main(arguments) == 130
    training, held_out = parts
    assert (len(training), len(held_out)) == (7, 3)  # the folders share names: none is lost
    assert not any(np.array_equal(a, b) for a in training[:3] for b in held_out[:2])


def test_about_a_tenth_is_held_out() -> None:
    held_out = [name for name in (f"IMG_{number}.jpg" for number in range(5000)) if patch_descriptors.is_held_out(name)]
    assert 0.08 < len(held_out) / 5000 < 0.12
    assert patch_descriptors.is_held_out("IMG_8.jpg") == (zlib.crc32(b"IMG_8.jpg") % 10 == 0)


def error_of(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    assert train_patches.main(arguments) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    return message


def test_nothing_to_train_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ["--output", str(tmp_path / "run")]
    assert "give --photos DIR, --model MODEL IMAGES, or both" in error_of(capsys, output)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no images in this folder" in error_of(capsys, ["--photos", str(empty), *output])
    assert "no such folder" in error_of(capsys, ["--photos", str(tmp_path / "missing"), *output])
    assert not (tmp_path / "run").exists()


def test_too_few_photographs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_photographs(tmp_path / "few", training=2, held_out=0)
    message = error_of(capsys, ["--photos", str(folder), "--output", str(tmp_path / "run")])
    assert "too few photographs to hold some out" in message


def test_a_damaged_photograph_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_photographs(tmp_path / "photographs")
    (folder / "broken.png").write_bytes(b"no picture")
    assert run(folder, tmp_path / "run", "--steps", "1", "--form", "patches") == 0
    captured = capsys.readouterr()
    assert re.search(r"skipped: .*broken\.png: not an image", captured.out + captured.err)


def test_flat_photographs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    for name in file_names("", 2, 1):
        cv2.imwrite(str(folder / name), photograph(240, 260, 0) * 0 + 128)
    message = error_of(capsys, ["--photos", str(folder), "--output", str(tmp_path / "run"), *SMALL])
    assert "no view pair with enough common points" in message


def test_a_folder_without_a_model(photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", str(tmp_path), str(photographs), "--output", str(tmp_path / "run")]
    assert f"{tmp_path}: no COLMAP model" in error_of(capsys, arguments)


@pytest.mark.parametrize("window", ["32", "0"])
def test_even_windows_are_refused(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], window: str
) -> None:
    arguments = ["--photos", str(photographs), "--output", str(tmp_path / "run"), "--window", window]
    assert f"--window {window}: the normalisation window must be odd" in error_of(capsys, arguments)


def test_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        train_patches.main(["--help"])
    assert exit_.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    parser = argparse.ArgumentParser()
    TrainPatches.add_arguments(parser)
    options = [action for action in parser._actions if action.dest != "help"]
    assert len(options) >= 14
    for action in options:
        assert action.option_strings[0] in printed
        assert action.help, f"{action.option_strings[0]} has no help"


@pytest.mark.parametrize("arguments", [[], ["--output", "x", "--form", "both"], ["--output", "x", "--steps", "many"]])
def test_wrong_arguments_are_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        train_patches.main(arguments)
    assert exit_.value.code == 2
    assert "usage:" in capsys.readouterr().err
