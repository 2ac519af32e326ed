"""The command line of features and matches: our engine, hloc's options, what is said of bad input."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from posfeat_hloc import confs
from posfeat_hloc.__main__ import main
from posfeat_hloc.stores import FeatureStore, MatchStore
from tests.conftest import Texture
from tests.fake_hloc import fake_hloc  # noqa: F401

Fake = Callable[..., ModuleType]
Output = pytest.CaptureFixture[str]


@pytest.fixture
def photos(tmp_path: Path, texture: Texture) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(texture(width=100, height=80)).save(folder / name)
    return folder


def extract(photos: Path, *arguments: object) -> int:
    given = ["--image_dir", photos, "--export_dir", photos.parent, *arguments]
    return main(["extract", *map(str, given), *([] if "--conf" in arguments else ["--conf", "sift"])])


def match(folder: Path, *arguments: object) -> int:
    (folder / "pairs.txt").write_text("a.png b.png\nb.png c.png\n")
    return main(["match", "--pairs", str(folder / "pairs.txt"), *map(str, arguments)])


def test_features_and_matches_by_name_as_hloc_names_them(photos: Path, capsys: Output) -> None:
    folder = photos.parent
    assert extract(photos) == 0
    assert f"images: 3 extracted, 0 kept, 0 skipped\nfeatures: {folder / 'feats-sift.h5'}" in capsys.readouterr().out
    assert match(folder, "--export_dir", folder, "--features", "feats-sift", "--conf", "NN-ratio") == 0
    path = folder / "feats-sift_matches-NN-mutual-ratio.8_pairs.h5"
    assert capsys.readouterr().out.endswith(f"matches: {path}\n")
    with FeatureStore(folder / "feats-sift.h5") as features, MatchStore(path) as matches:
        assert features.names() == ["a.png", "b.png", "c.png"]
        pairs = matches.read("a.png", "b.png").pairs()  # two copies of one image
        assert len(pairs) > 10
        assert (pairs[:, 0] == pairs[:, 1]).all()


def test_files_where_they_are_wanted(photos: Path, tmp_path: Path) -> None:
    features, matches = tmp_path / "new" / "f.h5", tmp_path / "newer" / "m.h5"
    assert extract(photos, "--feature_path", features, "--as_half", "--device", "cpu") == 0
    assert match(tmp_path, "--features", features, "--matches", matches) == 0
    assert match(tmp_path, "--features", features) == 0
    assert matches.exists()
    assert (features.parent / "f_matches-NN-mutual_pairs.h5").exists()


def test_matching_says_how_many_matches_there_are(photos: Path, capsys: Output) -> None:
    """The three images are the same, so that every keypoint has a match; one of them is grey."""
    Image.new("L", (100, 80), 128).save(photos / "c.png")
    assert extract(photos) == 0
    features = photos.parent / "feats-sift.h5"
    with FeatureStore(features) as store:
        count = len(store.read("a.png"))
    capsys.readouterr()
    assert match(photos.parent, "--features", features) == 0
    told = f"pairs: 2 matched, 0 kept; {count} matches, {count / 2:g} in the median pair; 1 without a match"
    assert told in capsys.readouterr().out
    assert match(photos.parent, "--features", features) == 0
    assert "pairs: 0 matched, 2 kept\n" in capsys.readouterr().out


def test_a_list_of_images_and_a_second_run(photos: Path, capsys: Output) -> None:
    (photos.parent / "list.txt").write_text("c.png\na.png\n")
    assert extract(photos, "--image_list", photos.parent / "list.txt") == 0
    assert "2 extracted, 0 kept" in capsys.readouterr().out
    assert extract(photos) == 0
    assert "1 extracted, 2 kept" in capsys.readouterr().out
    assert extract(photos, "--overwrite") == 0
    assert "3 extracted, 0 kept" in capsys.readouterr().out


def test_what_cannot_be_read_is_listed(photos: Path, capsys: Output) -> None:
    (photos / "b.png").write_bytes(b"no image")
    assert extract(photos) == 0
    out = capsys.readouterr().out
    assert "skipped: b.png:" in out
    assert "2 extracted, 0 kept, 1 skipped" in out
    for name in ("a.png", "c.png"):
        (photos / name).write_bytes(b"")
    assert extract(photos, "--feature_path", photos.parent / "none.h5") == 1
    assert "0 extracted, 0 kept, 3 skipped" in capsys.readouterr().out


def test_our_engine_knows_the_names_that_confs_have_in_hloc(photos: Path) -> None:
    assert extract(photos, "--conf", "posfeat_hloc/sift") == 0
    assert (photos.parent / "feats-sift.h5").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--conf", "superpoint_aachen"], "--conf: 'superpoint_aachen' is not one of d2d-hardnet, "),
        (["--weights", "x.pth"], "--weights: sift has no weights"),
        (["--conf", "d2d-hardnet", "--weights", "gone.pth"], "gone.pth"),
        (["--image_list", "gone.txt"], "gone.txt: cannot be read as a list of image names"),
        (["--device", "cuda:77"], "device 'cuda:77' cannot be used"),
    ],
)
def test_bad_input_is_one_line(photos: Path, capsys: Output, arguments: list[str], message: str) -> None:
    assert extract(photos, *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error


def test_bad_input_of_matching_is_one_line(photos: Path, capsys: Output) -> None:
    folder = photos.parent
    assert match(folder, "--features", "feats-sift") == 1
    assert "there is no file feats-sift; for a name, give its folder in --export_dir" in capsys.readouterr().err
    assert match(folder, "--features", "feats-sift", "--export_dir", folder) == 1
    assert f"{folder / 'feats-sift.h5'}: no such file" in capsys.readouterr().err
    assert extract(photos, "--conf", "sift") == 0
    (photos.parent / "other.txt").write_text("a.png z.png\n")
    features = ["--features", str(folder / "feats-sift.h5")]
    assert main(["match", "--pairs", str(folder / "other.txt"), *features]) == 1
    assert "other.txt, line 1" in capsys.readouterr().err
    assert not (folder / "feats-sift_matches-NN-mutual_other.h5").exists()


def test_the_list_has_a_line_for_each_conf(capsys: Output) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["extract", *confs.extractors, "match", *confs.matchers]
    assert lines[1].split(maxsplit=1)[1] == (
        "d2d: network hardnet, weights hardnet, positions grid, max_keypoints 8192, min_contrast 0.002, grey, "
        "at most 1600 px"
    )


def test_the_default_features_file_has_its_name() -> None:
    assert confs.extractors[confs.DEFAULT_FEATURE]["output"] == f"feats-{confs.DEFAULT_FEATURE}"


def test_hlocs_engine_gets_hlocs_arguments(fake_hloc: Fake, photos: Path, capsys: Output) -> None:  # noqa: F811
    fake_hloc()
    folder = photos.parent
    assert extract(photos, "--engine", "hloc", "--conf", "posfeat", "--weights", "w.pth", "--as_half") == 0
    (call,) = import_module("hloc.extract_features").calls
    model = confs.extractors["posfeat"]["model"] | {"weights": "w.pth"}
    assert call == {
        "conf": confs.extractors["posfeat"] | {"model": model}, "image_dir": photos, "export_dir": folder,
        "as_half": True, "image_list": None, "feature_path": folder / "feats-posfeat.h5", "overwrite": False,
    }  # fmt: skip
    assert import_module("hloc.extract_features").confs["posfeat"] == confs.extractors["posfeat"]
    assert extract(photos, "--engine", "hloc", "--conf", "disk") == 0
    assert import_module("hloc.extract_features").calls[1]["conf"]["model"] == {"name": "disk"}

    assert extract(photos) == 0  # features for hloc's matching, by our engine
    assert match(folder, "--engine", "hloc", "--features", folder / "feats-sift.h5", "--conf", "NN-ratio") == 0
    (call,) = import_module("hloc.match_features").calls
    assert call["conf"]["model"]["name"] == "nearest_neighbor"  # hloc's own
    assert call["matches"] == folder / "feats-sift_matches-NN-mutual-ratio.8_pairs.h5"
    assert call["features"] == folder / "feats-sift.h5"
    capsys.readouterr()
    assert main(["list", "--engine", "hloc"]) == 0
    listed = capsys.readouterr().out
    assert "\n  disk " in listed
    assert "\n  posfeat_hloc/NN-mutual " in listed


def test_what_hloc_complains_of_is_one_line(fake_hloc: Fake, photos: Path, capsys: Output) -> None:  # noqa: F811
    fake_hloc()
    assert extract(photos.parent / "gone", "--engine", "hloc") == 1
    assert capsys.readouterr().err == "error: hloc 9.8 stopped (ValueError: Could not find any image)\n"
    assert extract(photos, "--engine", "hloc", "--device", "cpu") == 1
    assert "hide it with CUDA_VISIBLE_DEVICES=" in capsys.readouterr().err


def test_hlocs_engine_without_hloc(photos: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hloc", None)
    assert extract(photos, "--engine", "hloc") == 1
    assert "error: hloc is not installed: pip install" in capsys.readouterr().err
