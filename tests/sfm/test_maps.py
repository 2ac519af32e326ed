"""Maps at known poses, maps that grow by ten photographs, and where models lie; by the commands, on rendered views."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from pipelines import localize, sfm
from posfeat_hloc.__main__ import main
from posfeat_hloc.localization.results import write_results
from posfeat_hloc.sfm.alignment import positions_of, read_camera_positions
from posfeat_hloc.sfm.models import read_model
from tests.rendering import FOCAL, HEIGHT, WIDTH, View, write_scene

pytestmark = pytest.mark.slow

Array = NDArray[np.float64]
OLD = (0, 3, 7, 11, 14)
"""Of 15 views on an arc; the other ten join later."""
CAMERA = f"SIMPLE_PINHOLE {WIDTH} {HEIGHT} {FOCAL} {WIDTH / 2} {HEIGHT / 2}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, View]]:
    """Photographs, and a map of five of them."""
    folder = tmp_path_factory.mktemp("world")
    views = write_scene(folder / "all", 15)
    (folder / "photos").mkdir()
    for i, name in enumerate(sorted(views)):
        if i in OLD:
            shutil.copy2(folder / "all" / name, folder / "photos" / name)
    arguments = [
        "--images",
        folder / "photos",
        "--output",
        folder / "map",
        "--feature",
        "sift",
        "--max-keypoints",
        1000,
    ]
    arguments += ["--camera", "single", "--camera-model", "SIMPLE_PINHOLE", "--quiet", "--threads", 1]
    assert sfm.main([*map(str, arguments), "--camera-params", f"{FOCAL},{WIDTH / 2},{HEIGHT / 2}"]) == 0
    return folder, views


@pytest.fixture(scope="module")
def grown(world: tuple[Path, dict[str, View]]) -> Path:
    """The map after ten photographs were put into its folder."""
    folder, views = world
    for name in views:
        if not (folder / "photos" / name).exists():
            shutil.copy2(folder / "all" / name, folder / "photos" / name)
    assert main(["register", str(folder / "map"), "--quiet", "--threads", "1"]) == 0
    return folder / "map-grown"


def test_ten_photographs_join_and_old_poses_stay_to_the_last_digit(
    world: tuple[Path, dict[str, View]], grown: Path
) -> None:
    folder, views = world
    before, after = read_model(folder / "map/sparse/0"), read_model(grown / "sparse/0")
    assert (before.num_reg_images(), after.num_reg_images()) == (5, 15)
    now = {image.name: image for image in after.images.values()}
    for image in before.images.values():
        one, other = image.cam_from_world(), now[image.name].cam_from_world()
        assert one.rotation.quat.tobytes() == other.rotation.quat.tobytes()
        assert one.translation.tobytes() == other.translation.tobytes()
    for camera_id, camera in before.cameras.items():
        assert (after.cameras[camera_id].params == camera.params).all()
    found = positions_of(after)
    names = sorted(positions_of(before))
    frame = pycolmap.estimate_sim3d(
        np.array([found[name] for name in names]), np.array([views[name].centre for name in names])
    )
    for name, view in views.items():
        assert np.linalg.norm(frame * found[name] - view.centre) < 0.04  # neighbours are 0.3 units apart
    assert after.num_points3D() > before.num_points3D()
    assert after.compute_mean_reprojection_error() < 0.6


def test_a_grown_map_is_a_map(world: tuple[Path, dict[str, View]], grown: Path, tmp_path: Path) -> None:
    folder, _ = world
    (tmp_path / "queries").mkdir()
    shutil.copy2(folder / "all/view_05.png", tmp_path / "queries/query.png")
    (tmp_path / "list.txt").write_text(f"query.png {CAMERA}\n")
    command = ["--map", grown, "--queries", tmp_path / "list.txt", "--images", tmp_path / "queries"]
    assert localize.main([*map(str, command), "--output", str(tmp_path / "out"), "--quiet"]) == 0
    words = (tmp_path / "out/poses.txt").read_text().split()
    pose = pycolmap.Rigid3d(pycolmap.Rotation3d([*map(float, words[2:5]), float(words[1])]), [*map(float, words[5:])])
    known = positions_of(read_model(grown / "sparse/0"))
    assert np.linalg.norm(pose.inverse().translation - known["view_05.png"]) < 0.02


def test_nothing_new_and_the_map_itself_are_refused(
    world: tuple[Path, dict[str, View]], grown: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = world
    assert main(["register", str(grown), "--quiet"]) == 1
    assert "all its photographs are in the model already" in capsys.readouterr().err
    assert main(["register", str(folder / "map"), "--output", str(folder / "map"), "--quiet"]) == 1
    assert "holds the map itself" in capsys.readouterr().err


@pytest.fixture(scope="module")
def posed(world: tuple[Path, dict[str, View]]) -> Path:
    """True poses of the five photographs, as a list."""
    folder, views = world
    poses = {
        name: pycolmap.Rigid3d(pycolmap.Rotation3d(views[name].rotation), views[name].translation)
        for i, name in enumerate(sorted(views))
        if i in OLD
    }
    write_results(folder / "poses.txt", poses)
    lines = (folder / "poses.txt").read_text().splitlines()
    intrinsics = f"{FOCAL} {FOCAL} {WIDTH / 2} {HEIGHT / 2}"
    (folder / "poses.txt").write_text("".join(f"{line} {intrinsics}\n" for line in lines))
    return folder / "poses.txt"


def triangulate(model: Path, images: Path, output: Path, *arguments: str) -> int:
    command = ["triangulate", "--model", model, "--images", images, "--output", output, "--feature", "sift", "--quiet"]
    return main([*map(str, command), "--max-keypoints", "1000", "--threads", "1", *arguments])


def test_a_map_at_known_poses(world: tuple[Path, dict[str, View]], posed: Path, tmp_path: Path) -> None:
    folder, views = world
    assert triangulate(posed, folder / "all", tmp_path / "map") == 0
    model = read_model(tmp_path / "map/sparse/0")
    for image in model.images.values():
        assert_allclose(image.cam_from_world().rotation.matrix(), views[image.name].rotation, atol=1e-9)
        assert_allclose(image.cam_from_world().translation, views[image.name].translation, atol=1e-9)
    points = np.array([p.xyz for p in model.points3D.values() if p.track.length() > 2])
    on_planes = np.minimum(np.abs(points[:, 2] - 7.5), np.abs(points[:, 1] - 1.8))  # the wall and the floor
    assert np.median(on_planes) < 0.02
    lengths = [len({e.image_id for e in p.track.elements}) for p in model.points3D.values()]
    assert min(lengths) == 2
    assert model.num_points3D() > 300
    (tmp_path / "queries").mkdir()
    shutil.copy2(folder / "all/view_05.png", tmp_path / "queries/query.png")
    (tmp_path / "list.txt").write_text(f"query.png {CAMERA}\n")
    command = ["--map", tmp_path / "map", "--queries", tmp_path / "list.txt", "--images", tmp_path / "queries"]
    assert localize.main([*map(str, command), "--output", str(tmp_path / "out"), "--quiet"]) == 0
    words = (tmp_path / "out/poses.txt").read_text().split()
    pose = pycolmap.Rigid3d(pycolmap.Rotation3d([*map(float, words[2:5]), float(words[1])]), [*map(float, words[5:])])
    assert np.linalg.norm(pose.inverse().translation - views["view_05.png"].centre) < 0.03


def test_refinement_brings_poses_nearer_to_the_truth(
    world: tuple[Path, dict[str, View]], posed: Path, tmp_path: Path
) -> None:
    folder, views = world
    rng = np.random.default_rng(0)
    lines = []
    for line in posed.read_text().splitlines():
        name, *words = line.split()
        numbers = np.array(words, np.float64)
        numbers[4:7] += rng.normal(0, 0.01, 3)
        lines.append(f"{name} {' '.join(map(str, numbers))}\n")
    (tmp_path / "rough.txt").write_text("".join(lines))
    assert triangulate(tmp_path / "rough.txt", folder / "all", tmp_path / "map", "--refine", "poses") == 0
    found = {name: read_model(tmp_path / "map" / name) for name in ("reference", "sparse/0")}
    truth = np.array([views[name].centre for name in sorted(positions_of(found["reference"]))])
    errors = {}
    for name, model in found.items():
        places = np.array([place for _, place in sorted(positions_of(model).items())])
        frame = pycolmap.estimate_sim3d(places, truth)
        errors[name] = np.linalg.norm(frame * places - truth, axis=1).mean()
        assert np.linalg.norm((places - truth).mean(axis=0)) < 0.02  # the frame is that of the given poses
    assert errors["sparse/0"] < 0.5 * errors["reference"]


def test_a_model_moves_to_known_positions_and_onto_another(
    world: tuple[Path, dict[str, View]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, views = world
    names = sorted(positions_of(read_model(folder / "map/sparse/0")))
    lines = ["# metres", *(f"{name} {' '.join(map(str, 10 * views[name].centre))}" for name in names)]
    lines[1] = f"{names[0]} 500 0 0"  # one is wrong
    (tmp_path / "positions.txt").write_text("\n".join(lines))
    command = ["align", str(folder / "map"), "--positions", str(tmp_path / "positions.txt"), "--output"]
    assert main([*command, str(tmp_path / "moved"), "--max-error", "1"]) == 0
    found = positions_of(read_model(tmp_path / "moved"))
    for name in names[1:]:
        assert np.linalg.norm(found[name] - 10 * views[name].centre) < 0.3
    assert main(["align", str(folder / "map"), "--to", str(tmp_path / "moved"), "--output", str(tmp_path / "on")]) == 0
    other = positions_of(read_model(tmp_path / "on"))
    assert_allclose([other[name] for name in names], [found[name] for name in names], atol=1e-6)
    assert "5 cameras at a median distance of" in capsys.readouterr().out
    (tmp_path / "positions.txt").write_text(f"{names[0]} 1 2\n")
    assert main([*command, str(tmp_path / "no")]) == 1
    assert "line 1: write 'name x y z'" in capsys.readouterr().err
    (tmp_path / "positions.txt").write_text(f"{names[0]} 1 2 3\n")
    assert main([*command, str(tmp_path / "no")]) == 1
    assert "1 of the model's cameras have a known position, 3 are needed" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_a_model_of_other_features_is_told_where_to_go(
    world: tuple[Path, dict[str, View]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = world
    shutil.copytree(folder / "map/sparse", tmp_path / "sparse")
    assert localize.main(["--map", str(tmp_path), "--queries", str(folder / "photos"), "--quiet"]) == 1
    error = capsys.readouterr().err
    assert f"posfeat-hloc triangulate --model {tmp_path}" in error


def test_the_summary_names_what_export_looks_for(grown: Path) -> None:
    command = json.loads((grown / "summary.json").read_text())["command"]
    assert Path(command["images"]).name == "photos"
    assert command["feature"] == "sift"


def test_positions_of_names_that_begin_with_a_hash(tmp_path: Path) -> None:
    path = tmp_path / "positions.txt"
    path.write_text("# metres, east north up\n#1.jpg 1 2 3\n# 2 b.jpg 4 5 6\n\na.jpg 7 8 9\n")
    found = read_camera_positions(path)
    assert {name: place.tolist() for name, place in found.items()} == {
        "#1.jpg": [1, 2, 3], "# 2 b.jpg": [4, 5, 6], "a.jpg": [7, 8, 9],
    }  # fmt: skip
