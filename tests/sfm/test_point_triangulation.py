"""Against COLMAP's own point triangulation, on noisy keypoints and false matches."""

import numpy as np
import pycolmap
import pytest

from posfeat_hloc.sfm import point_triangulation
from posfeat_hloc.sfm.point_triangulation import triangulate_points
from posfeat_hloc.sfm.reconstruction import read_model
from tests.sfm.test_triangulation import Scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    made = Scene(tmp_path_factory.mktemp("noisy"), text=False, noise=1.5)
    made.run()
    return made


def options():
    made = pycolmap.IncrementalPipelineOptions()
    made.min_num_matches, made.num_threads = 15, 1
    made.random_seed = made.mapper.random_seed = made.triangulation.random_seed = 0
    made.ba_refine_sensor_from_rig, made.extract_colors = False, False
    return made


def tracks(model):
    """Observations of a point -> where it is; ids may differ."""
    return {
        frozenset((element.image_id, element.point2D_idx) for element in point.track.elements): point.xyz
        for point in model.points3D.values()
    }


def run(scene):
    model = read_model(scene.folder / "reference")
    triangulate_points(model, scene.folder / "out" / "database.db", options())
    return model


def test_the_points_are_those_of_colmap(scene, tmp_path):
    pycolmap.set_random_seed(0)
    found = run(scene)
    pycolmap.set_random_seed(0)
    database = scene.folder / "out" / "database.db"
    theirs = pycolmap.triangulate_points(
        read_model(scene.folder / "reference"), database, scene.folder, tmp_path, options=options()
    )
    ours, expected = tracks(found), tracks(theirs)
    assert len(expected) > 80
    assert ours.keys() == expected.keys()
    distances = [np.linalg.norm(ours[key] - expected[key]) for key in expected]
    assert max(distances) < 1e-3  # noise moves the points by 0.01 to 0.1
    assert found.compute_mean_reprojection_error() == pytest.approx(theirs.compute_mean_reprojection_error(), rel=1e-4)


def test_only_points_with_other_observations_are_adjusted_again(scene, monkeypatch):
    rounds = []
    adjust = point_triangulation._adjust

    def count(model, points, *rest):
        rounds.append((len(points), len(model.points3D)))
        adjust(model, points, *rest)

    monkeypatch.setattr(point_triangulation, "_adjust", count)
    run(scene)
    assert len(rounds) > 1
    assert rounds[0][0] == rounds[0][1]
    assert all(adjusted < total / 2 for adjusted, total in rounds[1:])
