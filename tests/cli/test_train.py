"""The command: every stage from the command line, and everything that can be wrong with it."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch

from pipelines import train
from posfeat_hloc import weights
from posfeat_hloc.cli.arguments import chosen
from posfeat_hloc.cli.main import parsed
from posfeat_hloc.networks.posfeat import BACKBONES, GRID_ALIGNMENTS
from posfeat_hloc.training.dense_networks import Initial, load_initial
from posfeat_hloc.training.options import Backbone, GridAlignment, TrainingOptions
from posfeat_hloc.training.pipeline import train_options
from posfeat_hloc.training.posed_pairs import MAX_ROTATION
from posfeat_hloc.training.posfeat import TrainOptions
from posfeat_hloc.training.views import is_held_out
from posfeat_hloc.weights.loading import save_posfeat
from tests.training.scenes import network, photographs
from tests.training.test_posed_colmap import write_scene

SMALL = [
    "--size",
    "96x80",
    "--window",
    "0.3",
    "--validation-pairs",
    "2",
    "--validate-every",
    "2",
    "--precision",
    "fp32",
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = photographs(tmp_path_factory.mktemp("fotos mit Umlaut ä"))
    held_out = next(name for name in (f"other{i}.png" for i in range(1000)) if is_held_out(name))
    (folder / "photo0.png").rename(folder / held_out)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_posfeat(path, network(backbone_name="small"), "consistent")
    return str(path)


def run(*arguments: str) -> int:
    return train.main([*arguments, *SMALL])


def test_warm_up_then_describe_then_detect(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", f"synthetic:{pictures}", "--batch", "1", "--steps", "2"]
    warm, described, detected = (tmp_path / name for name in ("warm", "described", "detected"))
    assert run("--stage", "warmup", "--backbone", "small", *data, "--output", str(warm)) == 0
    start = str(warm / "weights.safetensors")
    assert run("--stage", "describe", *data, "--output", str(described), "--init", start) == 0
    start = str(described / "weights.safetensors")
    assert run("--stage", "detect", *data, "--output", str(detected), "--init", start) == 0
    told = capsys.readouterr().out
    assert "stage detect: 0.12 M parameters of small at 96x80, 2 steps of 1 pairs on cpu" in told
    assert "near_count" in told
    assert weights.load(str(detected / "weights.safetensors")).metadata["stage"] == "detect"
    before = weights.load(str(described / "weights.safetensors")).tensors
    final = torch.load(detected / "checkpoint.pt", weights_only=True)["network"]
    kept = {name for name, tensor in before.items() if torch.equal(tensor, final[name])}
    assert kept >= {name for name in before if name.startswith("backbone.")}
    assert "localheader.conv5.weight" not in kept


def test_a_network_is_distilled_from_another(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "--stage",
        "distill",
        "--teacher",
        "posfeat-small",
        "--backbone",
        "resnet18",
        "--data",
        f"synthetic:{pictures}",
    ]
    output = tmp_path / "run"
    assert run(*command, "--batch", "1", "--steps", "2", "--output", str(output)) == 0
    assert "near_count" in capsys.readouterr().out
    assert weights.load(str(output / "weights.safetensors")).metadata["backbone"] == "resnet18"
    command[3] = str(output / "weights.safetensors")
    assert run(*command, "--batch", "1", "--steps", "2", "--output", str(output)) == 1  # another teacher, another run
    assert "other options" in capsys.readouterr().err


def test_a_finished_run_is_not_repeated(pictures: Path, checkpoint: str, tmp_path: Path) -> None:
    command = ["--stage", "describe", "--data", f"synthetic:{pictures}", "--init", checkpoint, "--batch", "1"]
    command += ["--steps", "2", "--output", str(tmp_path / "run")]
    assert run(*command) == 0
    made = (tmp_path / "run" / "checkpoint.pt").stat().st_mtime_ns
    assert run(*command) == 0
    assert (tmp_path / "run" / "checkpoint.pt").stat().st_mtime_ns == made


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stage", "detect", "--data", "synthetic:X"], "needs a trained description network; give its weights"),
        (["--stage", "describe", "--data", "synthetic:/no/such/folder"], "is not a folder"),
        (["--stage", "describe", "--data", "photos"], "names no training data"),
        (["--stage", "warmup", "--data", "colmap:X"], "needs true correspondences"),
        (["--stage", "distill", "--data", "synthetic:X"], "belong together"),
        (["--stage", "warmup", "--data", "synthetic:X", "--teacher", "posfeat-small"], "belong together"),
        (["--stage", "distill", "--data", "synthetic:X", "--teacher", "hardnet"], "hardnet"),
        (["--stage", "describe", "--data", "synthetic:X", "--init", "missing.pth"], "neither a file"),
        (
            ["--stage", "describe", "--data", "synthetic:X", "--init", "CHECKPOINT", "--backbone", "resnet50"],
            "small",
        ),
        (
            ["--stage", "detect", "--data", "synthetic:X", "--init", "CHECKPOINT", "--grid-alignment", "published"],
            "leave out",
        ),
        (["--stage", "describe", "--data", "synthetic:X", "--batch", "0"], "must be greater than zero: batch 0"),
    ],
)
def test_what_cannot_be_trained_is_said(
    arguments: list[str], message: str, checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [checkpoint if a == "CHECKPOINT" else a for a in arguments]
    assert run(*arguments, "--output", str(tmp_path / "run")) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


@pytest.mark.parametrize("size", ["640", "640x470", "axb", "0x-16"])
def test_sizes_are_multiples_of_16(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.main(["--stage", "describe", "--data", "synthetic:X", "--output", "o", "--size", size])
    assert "multiples of 16" in capsys.readouterr().err


def options(*arguments: str, start: Initial | None = None) -> TrainOptions:
    args = parsed(["train", "--data", "synthetic:X", "--output", "o", *arguments])[1]
    return train_options(args.data, chosen(args, TrainingOptions), start)


def test_options_name_what_the_library_has() -> None:
    assert get_args(Backbone) == BACKBONES
    assert get_args(GridAlignment) == GRID_ALIGNMENTS
    assert TrainingOptions(stage="joint").max_rotation == MAX_ROTATION


def test_defaults_are_the_papers() -> None:
    found = options("--stage", "describe")
    assert (found.steps, found.batch, found.optimizer, found.momentum, found.learning_rate) == (
        100_000,
        6,
        "sgd",
        0.9,
        1e-3,
    )
    search = found.loss.line_to_window
    assert (search.line_points, search.window, search.noise, search.sigma) == (100, 0.1, "paper", "paper")
    assert (found.loss.detection.form, found.loss.detection.threshold) == ("paper", 2.0)
    assert found.relight == 0


def test_the_small_form_reads_cells_where_they_lie() -> None:
    for backbone_name, grid_alignment in (("small", "consistent"), ("resnet18", "published")):
        assert (
            options("--stage", "warmup", "--backbone", backbone_name).loss.line_to_window.grid_alignment
            == grid_alignment
        )
    found = options("--stage", "joint", "--backbone", "small", "--grid-alignment", "published", "--right-within", "1.5")
    assert found.loss.contrastive.grid_alignment == "published"
    assert found.loss.detection.threshold == 1.5


def test_the_repositorys_variant_and_what_is_given_overrule() -> None:
    found = options("--stage", "describe", "--variant", "official-code", "--batch", "3", "--sigma", "paper")
    assert (found.batch, found.optimizer, found.learning_rate) == (3, "adam", 1e-4)
    assert (found.loss.line_to_window.noise, found.loss.line_to_window.sigma) == ("official-code", "paper")
    assert found.loss.detection.form == "official-code"


@pytest.mark.parametrize(
    ("variant", "stage", "expected"),
    [
        ("paper", "describe", (100_000, 6, "sgd", 0.9, 1e-3, 0.9)),
        ("paper", "detect", (5_000, 6, "sgd", 0.9, 1e-3, 0.8)),
        ("paper", "joint", (100_000, 6, "sgd", 0.9, 1e-3, 0.9)),
        ("official-code", "describe", (100_000, 8, "adam", 0.9, 1e-4, 0.9)),
        ("official-code", "detect", (5_000, 6, "sgd", 0.0, 1e-3, 0.8)),  # without Nesterov's momentum
        ("official-code", "joint", (100_000, 8, "adam", 0.9, 1e-4, 0.9)),
    ],
)
def test_the_presets_of_both_variants(variant: str, stage: str, expected: tuple[float, ...]) -> None:
    found = options("--stage", stage, "--variant", variant, start=load_initial("posfeat-small"))
    steps = found.steps, found.batch, found.optimizer, found.momentum, found.learning_rate, found.decay_after
    assert steps == expected


@pytest.mark.slow  # two more processes that import torch
def test_two_processes_train_as_one_with_twice_the_pairs(pictures: Path, checkpoint: str, tmp_path: Path) -> None:
    """Each process draws every other batch, and gradients are averaged: as two accumulated batches in one process."""
    command = ["--stage", "detect", "--data", f"synthetic:{pictures}", "--init", checkpoint, "--batch", "1"]
    command += ["--steps", "2", "--learning-rate", "0.05", *SMALL]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*launcher, "-m", "pipelines.train", *command, "--output", str(tmp_path / "two")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert train.main([*command, "--accumulate", "2", "--output", str(tmp_path / "one")]) == 0
    states = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["network"] for name in ("one", "two")]
    start = weights.load(checkpoint).tensors
    name = "localheader.conv5.weight"
    assert (states[0][name] - start[name]).abs().max() > 1e-4
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], rtol=1e-3, atol=1e-5)


def test_windows_smaller_than_four_cells_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--stage", "describe", "--data", "synthetic:X", "--size", "64x64", "--output", str(tmp_path)]
    assert train.main(command) == 1
    assert "a window of 0.1 of 64x64 holds less than 2x2 cells" in capsys.readouterr().err


def test_an_output_that_is_a_file(
    pictures: Path, checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("")
    data = ["--data", f"synthetic:{pictures}", "--init", checkpoint]
    assert run("--stage", "describe", *data, "--output", str(tmp_path / "taken")) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_the_joint_stage_and_the_coarse_search(pictures: Path, checkpoint: str, tmp_path: Path) -> None:
    data = ["--data", f"synthetic:{pictures}", "--init", checkpoint, "--batch", "1", "--steps", "1"]
    assert run("--stage", "joint", *data, "--search", "coarse-to-fine", "--output", str(tmp_path / "run")) == 0


def test_a_single_picture_is_trained_and_validated_on(
    pictures: Path, checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = tmp_path / "one"
    only.mkdir()
    held_out = next(path for path in pictures.iterdir() if is_held_out(path.name))
    (only / held_out.name).write_bytes(held_out.read_bytes())
    data = ["--data", f"synthetic:{only}", "--init", checkpoint, "--batch", "1", "--steps", "1"]
    assert run("--stage", "describe", *data, "--output", str(tmp_path / "run")) == 0
    assert "too small to hold pairs out" in capsys.readouterr().out


def test_the_example_adapts_weights_to_a_scene(checkpoint: str, tmp_path: Path) -> None:
    write_scene(tmp_path, "radial")
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "finetune_on_my_scene.py"))
    small = {
        "steps": 1,
        "batch": 1,
        "size": (96, 80),
        "window": 0.3,
        "validation_pairs": 2,
        "device": "cpu",
        "max_rotation": 180.0,
    }
    adapted = example["adapt"](tmp_path / "model", tmp_path / "images", checkpoint, tmp_path / "adapted", **small)
    assert adapted == tmp_path / "adapted" / "detect" / "weights.safetensors"
    assert adapted.is_file()
