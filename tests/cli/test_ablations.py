"""The ablation commands, end to end, on rendered sequences."""

import shlex
from pathlib import Path

import numpy as np
import pytest

from pipelines import ablations
from posfeat_hloc import weights
from posfeat_hloc.cli.main import parsed
from posfeat_hloc.evaluation.d2d_ablations import Comparison
from posfeat_hloc.evaluation.extraction_time import take_turns
from posfeat_hloc.evaluation.homography import repeatability
from posfeat_hloc.evaluation.posfeat_ablations import MODEL_TRAININGS, MODELS, Model, Runs, model_conf
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.training.options import TrainingOptions
from posfeat_hloc.weights.loading import save_posfeat
from tests.cli import rows
from tests.networks.test_l2net import calibrated_network
from tests.networks.test_resunet import calibrated_posfeat
from tests.sequences import write_sequence


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("affine")
    write_sequence(folder / "graf", "oxford", moved=True, seed=1)
    return folder


@pytest.fixture(scope="module")
def hardnet(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "hardnet.safetensors"
    weights.save(path, calibrated_network("hardnet").published(), {})
    return path


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """One folder for all commands: features with the same options are extracted once."""
    return tmp_path_factory.mktemp("out")


def run(command, dataset, output, *arguments):
    return ablations.main(
        [command, "--dataset", str(dataset), "--output", str(output), "--quiet", *map(str, arguments)]
    )


def test_terms_stand_beside_the_papers(dataset, hardnet, output):
    features = ["--features", "d2d-hardnet:max_keypoints=60", "--weights", f"d2d-hardnet={hardnet}"]
    assert run("d2d-terms", dataset, output, *features) == 0
    table = rows(output / "terms.csv")
    assert [row["saliency"] for row in table] == ["S_AS alone", "S_RS alone", "both"]
    assert [float(row["D2D Table 3 (HPatches)"]) for row in table] == [71.38, 69.32, 72.40]
    assert len({row["mean MMA %"] for row in table}) == 3
    stems = {path.stem for path in (output / "features").iterdir()}
    assert stems >= {"d2d-hardnet_max_keypoints=60", "d2d-hardnet_max_keypoints=60_terms=absolute"}
    assert r"S\_AS alone" in (output / "terms.tex").read_text()


def test_the_sweep_shares_the_papers_window(dataset, hardnet, output, capsys):
    pytest.importorskip("matplotlib")
    shared = output / "features/d2d-hardnet_max_keypoints=60_terms=relative.h5"
    before = shared.stat().st_mtime_ns
    features = ["--features", "d2d-hardnet:max_keypoints=60", "--weights", f"d2d-hardnet={hardnet}"]
    assert run("d2d-radius", dataset, output, *features, "--radii", 1, 5) == 0
    assert shared.stat().st_mtime_ns == before
    first, fifth = rows(output / "radius.csv")
    assert (first["pixels"], fifth["pixels"]) == ("4", "20")
    assert fifth["mean MMA %"] == rows(output / "terms.csv")[1]["mean MMA %"]
    assert first["mean MMA %"] != fifth["mean MMA %"]
    assert (output / "radius.png").stat().st_size > 5000
    assert "best r_RS for HardNet and SOSNet is 5" in capsys.readouterr().out


def test_repeatability_across_detectors(dataset, hardnet, output):
    features = ["d2d-hardnet:max_keypoints=60", "sift:max_keypoints=50"]
    arguments = ["--features", *features, "--weights", f"d2d-hardnet={hardnet}", "--top-k", 40]
    assert run("repeatability", dataset, output, *arguments) == 0
    table = {(row["source"], row["destination"]): row for row in rows(output / "repeatability.csv")}
    assert len(table) == 4
    for label in features:
        assert float(table[label, label]["relative"]) == 1
    crossed, own = (table[features[0], other] for other in (features[1], features[0]))
    assert float(crossed["relative"]) == pytest.approx(float(crossed["repeatability"]) / float(own["repeatability"]))
    assert own["D2D Table 5 (HPatches)"] == "1.0"
    assert crossed["D2D Table 5 (HPatches)"] == ""
    with FeatureStore(output / "features/sift_max_keypoints=50.h5") as store:
        values = []
        for i in range(2, 7):
            points = []
            for name in ("graf/img1.ppm", f"graf/img{i}.ppm"):
                found = store.read(name)
                points.append(found.keypoints[np.sort(np.argsort(-found.scores, kind="stable")[:40])])
            values.append(repeatability(*points, np.loadtxt(dataset / f"graf/H1to{i}p"), (160, 120), (160, 120)))
    assert float(table[features[1], features[1]]["repeatability"]) == pytest.approx(np.mean(values))
    assert np.mean(values) > 0.5


def test_time_leaves_the_warm_up_out(dataset, tmp_path, capsys):
    command = ["time", "--images", str(dataset), "--output", str(tmp_path), "--limit", "3", "--quiet"]
    assert ablations.main([*command, "--features", "sift:max_keypoints=20", "sift"]) == 0
    each = rows(tmp_path / "seconds.csv")
    assert len(each) == 6
    assert {(row["width"], row["height"]) for row in each} == {("160", "120")}
    first, second = rows(tmp_path / "time.csv")
    assert float(first["keypoints"]) == 20
    own = [float(row["seconds"]) for row in each if row["feature"] == "sift"]
    assert float(second["seconds"]) == pytest.approx(sum(own) / 3)
    assert float(second["images/s"]) == pytest.approx(3 / sum(own))
    assert "without decoding" in capsys.readouterr().out


def test_runs_take_turns():
    order = []
    seconds = take_turns({name: lambda n=name: order.append(n) for name in "ab"}, rounds=3)
    assert order == ["a", "b"] * 3
    assert [len(values) for values in seconds.values()] == [3, 3]


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("d2d-terms", ["--features", "sift"], "sift has no S_D2D"),
        ("d2d-radius", ["--features", "superpoint"], "superpoint has no S_D2D"),
    ],
)
def test_what_cannot_be_run_is_named(dataset, tmp_path, capsys, command, arguments, message):
    assert run(command, dataset, tmp_path, *arguments) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("d2d-terms", ["--batch", "3"], "unrecognized arguments: --batch 3"),
        ("posfeat-window", ["--window", "0.2", "--data", "colmap:x"], "unrecognized arguments: --window 0.2"),
        ("posfeat-models", ["--steps", "3"], "the following arguments are required: --data"),
    ],
)
def test_unknown_options_are_refused(dataset, tmp_path, capsys, command, arguments, message):
    with pytest.raises(SystemExit):
        run(command, dataset, tmp_path, *arguments)
    assert message in capsys.readouterr().err


def test_a_dry_run_prints_the_trainings_of_the_paper(dataset, tmp_path, capsys):
    data = ["--data", "colmap:scene", "synthetic:my photos", "--dry-run"]
    assert run("posfeat-models", dataset, tmp_path, *data, "--init", "start.safetensors", "--size", "320x240") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert len(lines) == len(MODEL_TRAININGS) == 4
    assert all("--data colmap:scene 'synthetic:my photos' --output " in line for line in lines)
    read = [parsed(shlex.split(line)[1:])[1] for line in lines]
    assert [args.stage for args in read] == ["describe", "detect", "joint", "describe"]
    assert {args.size for args in read} == {(320, 240)}
    assert read[1].steps == 5000
    assert f"--init {tmp_path}/runs/describe/weights.safetensors" in lines[1]
    assert "--search coarse-to-fine" in lines[3]
    assert "--init start.safetensors" in lines[3]
    assert not list(tmp_path.iterdir())
    assert run("posfeat-window", dataset, tmp_path, *data) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert len(lines) == 18
    assert "--line-points 75 --window 0.075" in lines[0]
    assert "runs/describe-125x0.125/weights.safetensors" in lines[17]


def test_how_models_are_measured():
    file = Path("runs/detect/weights.safetensors")
    by_number = {model.label[0]: model_conf(model, file, "resnet50")["model"] for model in MODELS}
    assert by_number["1"]["name"] == by_number["2"]["name"] == "posfeat"
    assert by_number["1"]["threshold"] == 0.9
    assert by_number["3"] == by_number["4"]
    assert by_number["3"]["descriptor"] == "posfeat"
    assert "contrast_threshold" not in by_number["3"]  # OpenCV's own
    assert by_number["5"]["keypoints"]["name"] == "posfeat_hloc_disk"
    assert (by_number["5"]["descriptor"], by_number["5"]["weights"]) == ("posfeat", str(file))
    assert (by_number["6"]["keypoints"]["weights"], by_number["6"]["weights"]) == (str(file), "disk-depth")
    assert model_conf(Model("x", "detect"), file, "small")["model"]["subpixel"] == "quadratic"
    runs = Runs(Comparison(Path("data"), Path("out")), ["colmap:x"], TrainingOptions(stage="joint"), steps=10)
    assert runs.options_of(MODEL_TRAININGS[1]).steps == 1


def test_windows_are_trained_and_measured(dataset, tmp_path, monkeypatch):
    """Training itself is tested with its command; here each run leaves random weights of the small form."""
    commands = []

    def trained(data, output, options, reporter):
        commands.append(options)
        output.mkdir(parents=True, exist_ok=True)
        save_posfeat(output / "weights.safetensors", calibrated_posfeat("small"), "consistent", {"step": "7"})

    monkeypatch.setattr("posfeat_hloc.evaluation.posfeat_ablations.train", trained)
    training = ["--data", "synthetic:photos", "--steps", 40, "--batch", 1, "--line-points", 75, "--windows", 0.1, 0.3]
    assert run("posfeat-window", dataset, tmp_path, *training) == 0
    assert [(args.stage, args.steps, args.window, args.batch) for args in commands] == [
        ("describe", 40, 0.1, 1), ("detect", 2, None, 1), ("describe", 40, 0.3, 1), ("detect", 2, None, 1),
    ]  # fmt: skip
    assert commands[1].init == str(tmp_path / "runs/describe-75x0.1/weights.safetensors")
    first, second = rows(tmp_path / "window.csv")
    assert (first["N_line"], first["w_patch"], first["step"]) == ("75", "0.1", "7")
    assert (first["PoSFeat Table 4 (HPatches)"], second["PoSFeat Table 4 (HPatches)"]) == ("0.7705", "")
    assert 0 < float(first["MMAscore"]) == float(second["MMAscore"]) <= 1  # the same weights
    assert float(first["keypoints"]) > 50
