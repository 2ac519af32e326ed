"""A pipeline that names SuperPoint, SuperGlue and NetVLAD runs with features of this package."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pycolmap
import pytest

from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError, HlocError
from posfeat_hloc.hloc_plugin import cure_triangulation, features_in_pipelines, patch_triangulation
from posfeat_hloc.hloc_plugin.pipelines import complete_geometries
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


Kind = pycolmap.TwoViewGeometryConfiguration
MATCHES = np.array([[0, 1], [2, 3]], np.uint32)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Four images; pairs without a configuration, one of them without matches, and pairs with one."""
    path = tmp_path / "database.db"
    with pycolmap.Database.open(path) as db:
        camera = pycolmap.Camera(model="PINHOLE", width=100, height=80, params=[90, 90, 50, 40])
        camera.camera_id = db.write_camera(camera)
        for name in "abcd":
            db.write_image(pycolmap.Image(name=name, camera_id=camera.camera_id))
        for pair, kind, matches in [
            ((1, 2), Kind.UNDEFINED, MATCHES),
            ((3, 1), Kind.UNDEFINED, MATCHES),
            ((1, 4), Kind.UNDEFINED, MATCHES[:0]),
            ((2, 3), Kind.DEGENERATE, MATCHES),
            ((2, 4), Kind.PLANAR, MATCHES),
        ]:
            db.write_two_view_geometry(*pair, pycolmap.TwoViewGeometry(config=kind, inlier_matches=matches))
    return path


def kinds(path: Path) -> dict[tuple[int, int], object]:
    with pycolmap.Database.open(path) as db:
        found = {pair: db.read_two_view_geometry(*pair) for pair in COMPLETED}
    return {pair: (Kind(geometry.config), geometry.inlier_matches.tolist()) for pair, geometry in found.items()}


COMPLETED = {
    (1, 2): (Kind.CALIBRATED, MATCHES.tolist()),
    (1, 3): (Kind.CALIBRATED, MATCHES[:, ::-1].tolist()),
    (1, 4): (Kind.UNDEFINED, []),
    (2, 3): (Kind.DEGENERATE, MATCHES.tolist()),
    (2, 4): (Kind.PLANAR, MATCHES.tolist()),
}


def test_only_matches_without_a_configuration_change(database: Path) -> None:
    assert complete_geometries(database) == 2
    assert kinds(database) == COMPLETED
    assert complete_geometries(database) == 0
    assert kinds(database) == COMPLETED


@pytest.mark.parametrize(
    ("module", "step"), [("triangulation", "run_triangulation"), ("reconstruction", "run_reconstruction")]
)
def test_the_steps_of_hloc_see_a_completed_database(
    fake_hloc: Fake, database: Path, module: str, step: str  # noqa: F811
) -> None:  # fmt: skip
    fake_hloc()
    hloc = import_module(f"hloc.{module}")
    before, undefined = getattr(hloc, step), kinds(database)
    arguments = ("images", "reference")[: 2 if module == "triangulation" else 1]
    with patch_triangulation():
        assert kinds(database) == undefined
        assert getattr(hloc, step)("model", database, *arguments) == ("model", database)
        assert kinds(database) == COMPLETED
    assert getattr(hloc, step) is before


def test_arguments_by_name_and_an_error_inside(fake_hloc: Fake, database: Path) -> None:  # noqa: F811
    fake_hloc()
    hloc = import_module("hloc.reconstruction")
    before = hloc.run_reconstruction
    with pytest.raises(TypeError, match="view"), patch_triangulation():
        hloc.run_reconstruction(image_dir="images", sfm_dir="model", database_path=database, view=3)
    with pytest.raises(ZeroDivisionError), patch_triangulation():
        hloc.run_reconstruction(image_dir="images", sfm_dir=1 / 0, database_path=database)
    assert hloc.run_reconstruction is before
    with patch_triangulation():
        hloc.run_reconstruction(image_dir="images", sfm_dir="model", database_path=database)
    assert kinds(database) == COMPLETED
    assert hloc.run_reconstruction is before


def test_several_cures_end_with_the_last_in_any_order(fake_hloc: Fake) -> None:  # noqa: F811
    fake_hloc()
    hloc = import_module("hloc.triangulation")
    before = hloc.run_triangulation
    first, second = patch_triangulation(), patch_triangulation()
    cured = hloc.run_triangulation
    assert cured is not before
    first.close()
    first.close()
    assert hloc.run_triangulation is cured
    second.close()
    assert hloc.run_triangulation is before


def test_an_hloc_with_other_steps_is_left_as_it_is(fake_hloc: Fake) -> None:  # noqa: F811
    fake_hloc(**{"reconstruction.py": FILES["reconstruction.py"].replace("database_path", "db")})
    hloc = import_module("hloc.triangulation")
    before = hloc.run_triangulation
    for _ in range(2):
        with pytest.raises(HlocError, match=r"hloc 9\.8 .* hloc\.reconstruction\.run_reconstruction takes no database"):
            patch_triangulation()
        assert hloc.run_triangulation is before


def test_the_old_name_still_works_and_says_the_new_one(fake_hloc: Fake) -> None:  # noqa: F811
    fake_hloc()
    hloc = import_module("hloc.triangulation")
    before = hloc.run_triangulation
    with pytest.warns(DeprecationWarning, match="patch_triangulation"), cure_triangulation():
        assert hloc.run_triangulation is not before
    assert hloc.run_triangulation is before
