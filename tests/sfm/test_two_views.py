"""Two photographs, and pairs without a common image: points that two images see count where there are no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.sfm.reconstruction import MapperOptions, reconstruct
from tests.sfm.test_triangulation import NAMES, POINTS, Scene, true_point


def two_cameras(folder: Path, parallax: float = 1.0, images: int = 2) -> pycolmap.Reconstruction:
    """A verified pair of COLMAP's synthetic cameras, the second one moved towards the first."""
    pycolmap.set_random_seed(3)
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=images, num_cameras_per_rig=1, num_frames_per_rig=1, num_points3D=400
    )
    with pycolmap.Database.open(folder / "d.db") as db:
        truth = pycolmap.synthesize_dataset(options, db)
        for camera in truth.cameras.values():
            camera.has_prior_focal_length = True
            db.update_camera(camera)
    return truth


@pytest.mark.parametrize("mapper", ["incremental", "global", "hierarchical"])
def test_two_images_give_a_model(tmp_path: Path, mapper: str) -> None:
    truth = two_cameras(tmp_path)
    (best,) = reconstruct(tmp_path / "d.db", tmp_path, tmp_path / "sparse", MapperOptions(mapper), progress=False)
    assert best.registered == 2
    assert best.points > 300
    assert best.track_length == 2
    model = read_model(tmp_path / "sparse/0")
    first, second = (model.find_image_with_name(image.name) for image in truth.images.values())
    true_first, true_second = truth.images.values()
    found = first.cam_from_world() * second.cam_from_world().inverse()
    true = true_first.cam_from_world() * true_second.cam_from_world().inverse()
    assert np.degrees((found.rotation * true.rotation.inverse()).angle()) < 0.5
    cosine = found.translation @ true.translation / np.linalg.norm(found.translation) / np.linalg.norm(true.translation)
    assert np.degrees(np.arccos(min(cosine, 1))) < 1


def test_a_pair_that_is_not_verified_gives_none(tmp_path: Path) -> None:
    two_cameras(tmp_path)
    with pycolmap.Database.open(tmp_path / "d.db") as db:
        db.clear_two_view_geometries()
    assert reconstruct(tmp_path / "d.db", tmp_path, tmp_path / "sparse", progress=False) == []


def test_where_three_images_see_points_no_others_are_taken(tmp_path: Path) -> None:
    two_cameras(tmp_path, images=4)
    (best,) = reconstruct(tmp_path / "d.db", tmp_path, tmp_path / "sparse", progress=False)
    model = read_model(tmp_path / "sparse/0")
    assert best.registered == 4
    assert min(point.track.length() for point in model.points3D.values()) >= 3


@pytest.mark.parametrize("verification", ["poses", "ransac"])
@pytest.mark.parametrize("pairs", [[(0, 1)], [(0, 1), (2, 3)]])
def test_points_at_known_poses(tmp_path: Path, verification: str, pairs: list[tuple[int, int]]) -> None:
    """One pair, and two without a common image: all tracks have two views, and COLMAP ignores such."""
    scene = Scene(tmp_path, text=False)
    summary = scene.run(verification=verification, pairs=[(NAMES[a], NAMES[b]) for a, b in pairs])
    assert summary.points > 0.6 * (POINTS - 30) * len(pairs)
    model = read_model(tmp_path / "out")
    errors = [
        np.linalg.norm(point.xyz - true_point(scene, model.images[e.image_id], e.point2D_idx))
        for point in model.points3D.values()
        for e in point.track.elements[:1]
    ]
    assert np.median(errors) < 1e-3
