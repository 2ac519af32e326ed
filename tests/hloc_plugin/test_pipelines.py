"""A pipeline that names SuperPoint, SuperGlue and NetVLAD runs with features of this package."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError, HlocError
from posfeat_hloc.hloc_plugin import features_in_pipelines
from tests.docs.pages import REPOSITORY
from tests.fake_hloc import FILES, fake_hloc  # noqa: F401

Fake = Callable[..., ModuleType]

PIPELINE = """
import sys
from hloc import extract_features, match_features
from pathlib import Path

FEATURE = {
    "output": "feats-superpoint-n4096-r1024",
    "model": {"name": "superpoint", "max_keypoints": 4096},
    "preprocessing": {"grayscale": True, "globs": ["*.color.png"]},
}
images, outputs = Path(sys.argv[1]), Path("outputs")
extract_features.main({"output": "global-feats-netvlad", "model": {"name": "netvlad"}}, images, outputs)
extract_features.main(FEATURE, images, outputs, as_half=True)
SUPERGLUE = {"output": "matches-superglue", "model": {"name": "superglue"}}
match_features.main(SUPERGLUE, "pairs", FEATURE["output"], outputs)
"""


@pytest.fixture
def hloc(fake_hloc: Fake) -> ModuleType:  # noqa: F811
    return fake_hloc(**{"pipelines/__init__.py": "", "pipelines/scene.py": PIPELINE})


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> tuple[list[dict], list[dict]]:
    """The example runs the pipeline; returns the confs that hloc's two loops were given."""
    import runpy
    import sys

    monkeypatch.setattr(sys, "argv", ["", *options, "hloc.pipelines.scene", str(tmp_path)])
    runpy.run_path(str(REPOSITORY / "examples/hloc_pipelines.py"), run_name="__main__")
    calls = (import_module(f"hloc.{side}_features").calls for side in ("extract", "match"))
    extracted, matched = ([call["conf"] for call in found] for found in calls)
    return extracted, matched


def test_its_loops_get_our_confs_under_its_names(
    hloc: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (described, extracted), (matched,) = run(tmp_path, monkeypatch, "--feature", "posfeat", "--max-keypoints", "77")
    assert described["model"]["name"] == "vlad"
    assert (described["output"], described["model"]["vocabulary"]) == ("global-feats-netvlad", str(tmp_path))
    assert extracted["model"] == confs.extractors["posfeat"]["model"] | {"max_keypoints": 77}
    assert extracted["output"] == "feats-superpoint-n4096-r1024"
    assert extracted["preprocessing"] == confs.extractors["posfeat"]["preprocessing"] | {"globs": ["*.color.png"]}
    assert (matched["output"], matched["model"]) == ("matches-superglue", confs.matchers["NN-mutual"]["model"])
    assert confs.extractors["posfeat"]["model"]["max_keypoints"] == 8192  # ours are as before


def test_a_matcher_and_hlocs_own_global_features(
    hloc: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--feature", "disk", "--matcher", "NN-ratio.75", "--retrieval", "hloc")
    (described, extracted), (matched,) = run(tmp_path, monkeypatch, *options)
    assert described == {"output": "global-feats-netvlad", "model": {"name": "netvlad"}}
    assert extracted["model"]["name"] == "posfeat_hloc_disk"  # hloc has a model of that name
    assert matched["model"]["ratio"] == 0.75


def test_hloc_is_as_before_afterwards(hloc: ModuleType) -> None:
    loops = [import_module(f"hloc.{side}_features") for side in ("extract", "match")]
    before = [loop.main for loop in loops]

    @features_in_pipelines("sift")
    def failing_pipeline() -> None:
        assert [loop.main for loop in loops] != before
        assert [inspect.signature(loop.main) for loop in loops] == [inspect.signature(main) for main in before]
        raise RuntimeError("the pipeline")

    with pytest.raises(RuntimeError, match="the pipeline"):
        failing_pipeline()
    assert [loop.main for loop in loops] == before


def test_names_that_do_not_exist(hloc: ModuleType) -> None:
    for wrong in ({"feature": "orb"}, {"matcher": "superglue"}, {"retrieval": "netvlad"}):
        (kind,) = wrong
        with pytest.raises(ConfigurationError, match=f"{kind} '{wrong[kind]}' does not exist; choose from "):
            features_in_pipelines(**wrong).__enter__()


def test_an_hloc_that_is_built_otherwise(fake_hloc: Fake) -> None:  # noqa: F811
    fake_hloc(**{"match_features.py": FILES["match_features.py"].replace("conf, pairs", "configuration, pairs")})
    with pytest.raises(HlocError, match=r"hloc\.match_features\.main takes no conf"):
        features_in_pipelines("sift").__enter__()
    assert not hasattr(import_module("hloc.extract_features").main, "__wrapped__")
