"""Queries that are held sideways: found by turning them, with the pose of the image as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from pipelines import localize, sfm
from posfeat_hloc.localization.localizer import Localizer
from posfeat_hloc.localization.results import Localized, amend_log, read_log, read_results
from posfeat_hloc.localization.rotation_retry import ENOUGH, better, is_certain
from posfeat_hloc.sfm.models import read_model
from tests.rendering import FOCAL, HEIGHT, WIDTH, arc, render


def localized(inliers: int, reason: str = "", rotation: int = 0) -> Localized:
    return Localized("q", None if reason else pycolmap.Rigid3d(), inliers=inliers, reason=reason, rotation=rotation)


def test_a_turn_wins_by_more_inliers_of_a_pose() -> None:
    assert better(localized(20), localized(30, rotation=90)).rotation == 90
    assert better(localized(30), localized(30, rotation=90)).rotation == 0
    assert better(localized(9, "too few"), localized(5, rotation=90)).rotation == 90
    assert better(localized(9, "too few"), localized(40, "too few", rotation=90)).rotation == 0
    assert better(localized(5), localized(40, "too few", rotation=90)).rotation == 0
    assert is_certain(localized(ENOUGH))
    assert not is_certain(localized(ENOUGH - 1))
    assert not is_certain(localized(ENOUGH, "no pose"))


@pytest.mark.parametrize(("earlier", "rotation"), [({}, 0), ({"turned": 90}, 90)])
def test_logs_of_earlier_versions_are_still_read(tmp_path: Path, earlier: dict[str, int], rotation: int) -> None:
    record = localized(30).as_dict()
    del record["rotation"]
    record |= earlier
    other = {**localized(20).as_dict(), "name": "r", "key": "2"}
    lines = [json.dumps({**record, "key": "1"}), json.dumps(other)]
    (tmp_path / "queries.jsonl").write_text("\n".join(lines) + "\n")
    assert read_log(tmp_path / "queries.jsonl")["q"].rotation == rotation
    amend_log(tmp_path / "queries.jsonl", {"q": localized(60, rotation=180)})
    found = read_log(tmp_path / "queries.jsonl")
    assert (found["q"].rotation, found["q"].inliers, found["r"].inliers) == (180, 60, 20)
    assert json.loads((tmp_path / "queries.jsonl").read_text().splitlines()[1]) == other


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of four views, and a fifth one as it is, on its side, and upside down."""
    folder = tmp_path_factory.mktemp("turned")
    (folder / "photos").mkdir()
    (folder / "queries").mkdir()
    views = arc(7)
    for number in (1, 2, 4, 5):
        Image.fromarray(render(views[number])).save(folder / f"photos/{number}.png")
    query = Image.fromarray(render(views[3]))
    query.save(folder / "queries/upright.png")
    query.transpose(Image.Transpose.ROTATE_90).save(folder / "queries/left.png")
    query.transpose(Image.Transpose.ROTATE_180).save(folder / "queries/over.png")
    (folder / "queries.txt").write_text(
        f"upright.png SIMPLE_PINHOLE {WIDTH} {HEIGHT} {FOCAL} {WIDTH / 2} {HEIGHT / 2}\n"
        f"left.png SIMPLE_PINHOLE {HEIGHT} {WIDTH} {FOCAL} {HEIGHT / 2} {WIDTH / 2}\n"
        f"over.png SIMPLE_PINHOLE {WIDTH} {HEIGHT} {FOCAL} {WIDTH / 2} {HEIGHT / 2}\n"
    )
    options = ["--images", folder / "photos", "--output", folder / "map", "--feature", "posfeat-small", "--quiet"]
    options += ["--max-keypoints", 800, "--camera", "single", "--device", "cpu", "--orientation", "auto"]
    options += ["--camera-model", "SIMPLE_PINHOLE", "--camera-params", f"{FOCAL},{WIDTH / 2},{HEIGHT / 2}"]
    assert sfm.main([str(part) for part in options]) == 0
    assert read_model(folder / "map/sparse/0").num_reg_images() == 4
    return folder


def run(world: Path, output: Path, *arguments: str) -> int:
    options = ["--map", world / "map", "--queries", world / "queries.txt", "--images", world / "queries"]
    options += ["--output", output, "--device", "cpu", "--quiet", *arguments]
    return localize.main([str(part) for part in options])


@pytest.mark.slow
def test_turned_queries_are_found_and_logged(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_exif = ("--orientation", "exif")
    assert run(world, tmp_path, *by_exif) == 0
    upright_only = read_log(tmp_path / "queries.jsonl")
    assert {name for name, record in upright_only.items() if is_certain(record)} == {"upright.png"}
    assert run(world, tmp_path, *by_exif, "--try-rotations") == 0
    assert "rotated             2 queries" in capsys.readouterr().out
    records = read_log(tmp_path / "queries.jsonl")
    # turned left by PIL, so turned right to stand upright again
    assert {name: record.rotation for name, record in records.items()} == {
        "upright.png": 0, "left.png": 90, "over.png": 180
    }  # fmt: skip
    poses = read_results(tmp_path / "poses.txt")
    centre = poses["upright.png"].inverse().translation
    upright = poses["upright.png"].rotation.matrix()
    for name, degrees in (("left.png", -90), ("over.png", 180)):
        assert np.linalg.norm(poses[name].inverse().translation - centre) < 0.05
        # the camera itself is turned about its axis: images turned to the left come of cameras turned to the right
        relative = poses[name].rotation.matrix() @ upright.T
        cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        np.testing.assert_allclose(relative, [[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]], atol=0.02)
    content = {path: path.read_bytes() for path in (tmp_path / "poses.txt", tmp_path / "queries.jsonl")}
    assert run(world, tmp_path, *by_exif, "--try-rotations") == 0
    assert {path: path.read_bytes() for path in content} == content


def test_a_localizer_turns_images_in_memory(world: Path, tmp_path: Path) -> None:
    camera = pycolmap.Camera.create_from_model_name(1, "SIMPLE_PINHOLE", FOCAL, HEIGHT, WIDTH)
    pixels = np.asarray(Image.open(world / "queries/left.png"))
    with Localizer(world / "map", device="cpu", orientation="exif") as localizer:
        assert not is_certain(localizer.localize(pixels, camera).result)
    with Localizer(world / "map", device="cpu", orientation="exif", try_rotations=True) as localizer:
        found = localizer.localize(pixels, camera).result
    assert (found.localized, found.rotation) == (True, 90)
    assert found.inliers >= ENOUGH
    with Localizer(world / "map", device="cpu", orientation="auto") as localizer:
        answer = localizer.localize(pixels, camera)
        found = answer.result
        assert "orient" in answer.seconds
    assert (found.localized, found.rotation) == (True, 90)
    assert found.inliers >= ENOUGH


@pytest.mark.parametrize("small", ["of the map", "of its photographs", "none"])
def test_the_maps_images_tell_how_queries_are_held(world: Path, tmp_path: Path, small: str) -> None:
    """By the file that the map's making left, or by its photographs; where there is neither, queries stay."""
    copy = Path(shutil.copytree(world / "map", tmp_path / "map"))
    if small != "of the map":
        (copy / "orientation.h5").unlink()
    images = world / ("photos" if small == "of its photographs" else "gone")
    options = ["--map", copy, "--queries", world / "queries.txt", "--images", world / "queries", "--output"]
    options += [tmp_path / "out", "--map-images", images, "--device", "cpu", "--quiet"]
    options += ["--orientation", "auto"]
    assert localize.main([str(part) for part in options]) == 0
    records = read_log(tmp_path / "out/queries.jsonl")
    turned = {"upright.png": 0, "left.png": 90, "over.png": 180}
    assert {name: record.rotation for name, record in records.items()} == (
        turned if small != "none" else dict.fromkeys(turned, 0)
    )
    if small != "none":
        assert all(is_certain(record) for record in records.values())
        summary = json.loads((tmp_path / "out/summary.json").read_text())
        assert summary["rotated"] == {"left.png": 90, "over.png": 180}
    before = (tmp_path / "out/features.h5").read_bytes()
    assert localize.main([str(part) for part in options]) == 0
    assert (tmp_path / "out/features.h5").read_bytes() == before
