"""ONNX files give what the extractors give, and are what COLMAP's code asks for."""

from __future__ import annotations

import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from posfeat_hloc import confs, extractors, matchers, weights
from posfeat_hloc.__main__ import main
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.export.onnx import FEATURES, INPUTS, OUTPUTS, graph_of, write_onnx
from posfeat_hloc.export.onnx_matcher import MATCHER_INPUTS, write_onnx_matcher
from posfeat_hloc.features import Features
from tests.docs.pages import REPOSITORY
from tests.rendering import arc, render

onnx = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")

TRIED = ("posfeat-small", "posfeat", "d2d-hardnet-subpixel")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The features are written once, with the package's weights."""
    folder = tmp_path_factory.mktemp("onnx")
    for feature in TRIED:
        write_onnx(feature, folder / f"{feature}.onnx")
    return {feature: folder / f"{feature}.onnx" for feature in TRIED}


@pytest.fixture(scope="module")
def sessions(files: dict[str, Path]) -> dict[str, Any]:
    return {
        feature: onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        for feature, file in files.items()
    }


def photograph(height: int, width: int) -> NDArray[np.float32]:
    """A rendered view in 8 bits as ``(3, H, W)``; grey, for our grey pixels are rounded once more."""
    grey = np.asarray(Image.fromarray(render(arc(3)[1])).convert("L").resize((width, height)), np.float32) / 255
    return np.stack([grey] * 3)


def ours(feature: str, image: NDArray[np.float32], count: int) -> Features:
    model = confs.extractors[feature]["model"] | {"precision": "fp32", "max_keypoints": count}
    extractor: Any = extractors.create(model | ({"spread": False} if "spread" in model else {}))
    seen = image[:1] if extractor.grayscale else image
    found: Features = extractor(torch.tensor(seen)[None])[0]
    return found


def run(session: Any, image: NDArray[np.float32], count: int, least: float = 0.0) -> Features:
    """The answer in pixels."""
    given = (image[None], np.array(count), np.array(least, np.float32))
    places, descriptors, scores = session.run(None, dict(zip(INPUTS, given, strict=True)))
    last = np.array([image.shape[2], image.shape[1]]) - 1
    return Features(((places[0] + 1) / 2 * last).astype(np.float32), scores[0], descriptors[0])


def share_found(wanted: Features, found: Features) -> float:
    """Of keypoints that are found at the same place with the same descriptor and score."""
    away = np.linalg.norm(wanted.keypoints[:, None] - found.keypoints, axis=2)
    nearest = away.argmin(axis=1)
    same = away.min(axis=1) < 0.01
    same &= np.abs(wanted.descriptors - found.descriptors[nearest]).max(axis=1) < 2e-3
    same &= np.abs(wanted.scores - found.scores[nearest]) < 1e-3 * (1 + wanted.scores)
    return float(same.mean())


@pytest.mark.parametrize(
    ("feature", "height", "width"),
    [
        ("posfeat-small", 96, 128),
        ("posfeat-small", 100, 77),
        ("posfeat-small", 64, 201),
        ("posfeat", 100, 77),
        ("d2d-hardnet-subpixel", 100, 77),
        ("d2d-hardnet-subpixel", 64, 201),
    ],
)
def test_keypoints_scores_and_descriptors_are_ours(
    sessions: dict[str, Any], feature: str, height: int, width: int
) -> None:
    image = photograph(height, width)
    wanted = ours(feature, image, 10_000)
    found = run(sessions[feature], image, 10_000)
    assert len(wanted) > 20
    assert abs(len(found) - len(wanted)) <= 0.01 * len(wanted)
    assert share_found(wanted, found) > 0.98  # of equal scores, one may pass the other
    assert np.all(np.diff(found.scores) <= 0)


@pytest.mark.parametrize("feature", TRIED)
def test_number_and_score_of_keypoints_are_limited_when_it_runs(sessions: dict[str, Any], feature: str) -> None:
    image = photograph(96, 128)
    everything = run(sessions[feature], image, 10_000)
    few = run(sessions[feature], image, 15)
    np.testing.assert_array_equal(few.keypoints, everything.keypoints[:15])
    least = float(everything.scores[9])
    assert len(run(sessions[feature], image, 10_000, least)) == (everything.scores >= np.float32(least)).sum()
    assert len(run(sessions[feature], image, 15, 1e9)) == 0


@pytest.mark.parametrize("feature", TRIED)
def test_the_file_is_what_colmap_asks_for(sessions: dict[str, Any], feature: str) -> None:
    """src/colmap/feature/aliked.cc: names in this order, ranks, scalars, and a descriptor of known length."""
    inputs, outputs = sessions[feature].get_inputs(), sessions[feature].get_outputs()
    assert [(one.name, one.type) for one in inputs] == [
        ("image", "tensor(float)"), ("max_keypoints", "tensor(int64)"), ("min_score", "tensor(float)"),
    ]  # fmt: skip
    assert [len(one.shape) for one in inputs] == [4, 0, 0]
    assert inputs[0].shape[:2] == [1, 3]
    assert all(isinstance(side, str) for side in inputs[0].shape[2:])  # any size
    assert tuple(one.name for one in outputs) == OUTPUTS
    assert [one.type for one in outputs] == ["tensor(float)"] * 3
    assert [len(one.shape) for one in outputs] == [3, 3, 2]
    assert (outputs[0].shape[2], outputs[1].shape[2]) == (2, 128)
    described = sessions[feature].get_modelmeta().custom_metadata_map
    assert described["feature"] == feature
    name = confs.extractors[feature]["model"]["weights"]
    assert described["weights_sha256"] == weights.BUNDLED[name].sha256


def test_what_colmap_makes_of_it_are_our_keypoints_plus_half_a_pixel(sessions: dict[str, Any]) -> None:
    """COLMAP repeats the last row and column up to multiples of 32, and leaves out keypoints there."""
    height, width = 100, 77
    image = photograph(height, width)
    padded = F.pad(torch.tensor(image)[None], (0, -width % 32, 0, -height % 32), mode="replicate")[0].numpy()
    places = sessions["posfeat-small"].run(
        ["keypoints"],
        {"image": padded[None], "max_keypoints": np.array(500), "min_score": np.array(0, np.float32)},
    )[0][0]
    scale = np.float32(0.5) * np.array([padded.shape[2] - 1, padded.shape[1] - 1], np.float32)
    colmap = (places + 1) * scale + np.float32(0.5)
    colmap = colmap[((colmap >= 0) & (colmap < [width, height])).all(axis=1)]
    wanted = ours("posfeat-small", padded, 500).keypoints + 0.5
    wanted = wanted[((wanted >= 0) & (wanted < [width, height])).all(axis=1)]
    away = np.linalg.norm(wanted[:, None] - colmap, axis=2).min(axis=1)
    assert len(wanted) > 50
    assert (away < 0.01).mean() > 0.98


@pytest.fixture(scope="module")
def matcher(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("matcher") / "matcher.onnx"
    write_onnx_matcher(file)
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def test_the_matcher_is_what_colmap_asks_for(matcher: Any) -> None:
    """src/colmap/feature/onnx_matchers.cc: names in this order, ranks, scalars, and the types that are read."""
    assert [(one.name, len(one.shape), one.type) for one in matcher.get_inputs()] == [
        ("descs1", 2, "tensor(float)"), ("descs2", 2, "tensor(float)"), ("min_cossim", 0, "tensor(float)"),
        ("max_ratio", 0, "tensor(float)"), ("cross_check", 0, "tensor(int64)"),
    ]  # fmt: skip
    assert [(one.name, len(one.shape), one.type) for one in matcher.get_outputs()] == [
        ("idx0", 1, "tensor(int64)"), ("idx1", 1, "tensor(int64)"), ("scores", 1, "tensor(float)"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("least", "ratio", "cross"), [(-1.0, 1.0, 1), (-1.0, 0.0, 0), (0.25, 1.0, 1), (-1.0, 0.93, 0), (0.2, 0.95, 1)]
)
@pytest.mark.parametrize(("count", "other", "dimension"), [(40, 60, 128), (60, 2, 64), (2, 2, 8)])
def test_the_matcher_matches_as_ours_does(
    matcher: Any, count: int, other: int, dimension: int, least: float, ratio: float, cross: int
) -> None:
    rng = np.random.default_rng(count)
    descriptors = [rng.normal(size=(n, dimension)).astype(np.float32) for n in (count, other)]
    descriptors = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in descriptors]
    given = (*descriptors, np.float32(least), np.float32(ratio), np.int64(cross))
    answer = matcher.run(None, dict(zip(MATCHER_INPUTS, map(np.asarray, given), strict=True)))
    conf = {"name": "nearest", "mutual": bool(cross), "ratio": ratio or None, "precision": "fp32"}
    conf["max_distance"] = None if least < 0 else float(np.sqrt(2 - 2 * least))
    features = [Features(np.zeros((len(x), 2), np.float32), np.ones(len(x), np.float32), x) for x in descriptors]
    wanted = matchers.match(matchers.create(conf), *features)
    np.testing.assert_array_equal(np.stack(answer[:2], axis=1), wanted.pairs())
    np.testing.assert_allclose((answer[2] + 1) / 2, wanted.scores[wanted.indices >= 0], atol=1e-5)


def test_paths_with_spaces_are_quoted_in_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "übung raum"
    files = [str(folder / name) for name in ("d2d.onnx", "matcher.onnx")]
    assert main(["export-onnx", files[0], "--feature", "d2d-hardnet-subpixel", "--matcher", files[1]]) == 0
    words = shlex.split(capsys.readouterr().out.split("\n\n", 2)[2])
    for option, least in (("--AlikedExtraction.min_score", 0), ("--AlikedMatching.brute_force_min_cossim", -1)):
        assert least <= float(words[words.index(option) + 1]) <= 1  # what COLMAP's checks of its options let through
    assert words[words.index("--AlikedExtraction.n16rot_model_path") + 1] == files[0]
    assert words[words.index("--AlikedMatching.bruteforce_model_path") + 1] == files[1]
    assert words[words.index("--AlikedMatching.bruteforce_model_path") + 2 :][:2] == ["colmap", "mapper"]


def test_the_command_prints_what_to_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "d2d.onnx"
    assert main(["export-onnx", str(file), "--feature", "d2d-hardnet-subpixel"]) == 0
    printed = capsys.readouterr().out
    assert f"{file}: d2d-hardnet-subpixel, " in printed
    assert f"--AlikedExtraction.n16rot_model_path {file}" in printed
    assert "--AlikedExtraction.max_num_features 8192 --AlikedExtraction.min_score 0\n" in printed
    assert "--AlikedMatching.brute_force_min_cossim -1\n" in printed
    assert [path.name for path in file.parent.iterdir()] == ["d2d.onnx"]
    onnx.checker.check_model(str(file), full_check=True)


def test_the_example_needs_onnxruntime_alone(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, view in zip("ab", arc(9)[3:5], strict=True):
        Image.fromarray(render(view)).save(tmp_path / f"{name}.png")
    photographs = [str(tmp_path / name) for name in ("a.png", "b.png")]
    monkeypatch.setattr(sys, "argv", ["", str(files["posfeat-small"]), *photographs])
    runpy.run_path(str(REPOSITORY / "examples/onnx_alone.py"))
    printed = capsys.readouterr().out
    assert int(printed.split("keypoints, ")[1].split()[0]) > 100
    assert printed.count("->") == 3


def test_what_cannot_be_exported() -> None:
    for feature in FEATURES:
        assert feature in confs.extractors
    with pytest.raises(ConfigurationError, match="sift: cannot be exported to ONNX; posfeat-small, "):
        graph_of(extractors.create(confs.extractors["sift"]["model"]), "sift")
    with pytest.raises(ConfigurationError, match="d2d-hardnet: cannot be exported"):
        graph_of(extractors.create(confs.extractors["d2d-hardnet"]["model"]), "d2d-hardnet")


def test_without_onnx_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigurationError, match=r"needs the package onnx: pip install .*\[onnx\]"):
        write_onnx("posfeat-small", tmp_path / "x.onnx")
