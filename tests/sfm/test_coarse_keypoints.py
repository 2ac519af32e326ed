"""Mapping keypoints that lie on a grid: thresholds, intrinsics and observations."""

from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest

from posfeat_hloc.features import Features
from posfeat_hloc.sfm import reconstruction
from posfeat_hloc.sfm.coarse_keypoints import allow, coarse_noise, hold_intrinsics, max_error, repeated_observations
from posfeat_hloc.sfm.database import verify
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.sfm.reconstruction import MapperOptions, incremental_options, reconstruct
from posfeat_hloc.stores import FeatureStore
from tests.sfm.worlds import World, turned

CELL, FOCAL = 8, 600.0
NOISE = CELL / 12**0.5  # of a uniform distribution over a cell


@pytest.mark.parametrize(
    ("configuration", "uncertainty", "expected"),
    [
        ({"preprocessing": {"resize_max": 100}}, 2.3, 2.3),  # 1.15 px where they were found
        ({"preprocessing": {"resize_max": 100}}, 2.0, 0.0),  # to a pixel: COLMAP's thresholds suit
        ({"preprocessing": {"resize_max": None}}, 1.15, 1.15),
        ({"preprocessing": {"resize_max": 400}}, 1.15, 1.15),  # nothing is enlarged
        ({"preprocessing": {"resize_max": 400}}, 1.0, 0.0),
        ({}, 1.15, 1.15),
    ],
)
def test_keypoints_are_coarse_by_what_the_network_saw(
    tmp_path: Path, configuration: dict[str, object], uncertainty: float, expected: float
) -> None:
    empty = Features(np.zeros((1, 2), np.float32), np.ones(1, np.float32), np.ones((1, 4), np.float32))
    with FeatureStore(tmp_path / "f.h5", configuration) as store:
        for name in ("a", "b"):
            store.write(name, empty, (200, 150), uncertainty, "source")
        store.commit()
    assert coarse_noise(tmp_path / "f.h5", ["a", "b"]) == pytest.approx(expected)
    assert coarse_noise(tmp_path / "f.h5", []) == 0


def test_the_noise_is_that_of_most_images(tmp_path: Path) -> None:
    one = Features(np.zeros((1, 2), np.float32), np.ones(1, np.float32), np.ones((1, 4), np.float32))
    with FeatureStore(tmp_path / "f.h5", {"preprocessing": {"resize_max": 100}}) as store:
        for name, side in (("a", 100), ("b", 200), ("c", 1000)):
            store.write(name, one, (side, side), 1.15 * side / 100, "source")
        store.commit()
    assert coarse_noise(tmp_path / "f.h5", ["a", "b", "c"]) == pytest.approx(2.3)


def test_thresholds_are_three_deviations_or_colmaps() -> None:
    assert [max_error(noise) for noise in (0, 1.2, 2.0)] == pytest.approx([4, 4, 6])
    options, before = pycolmap.IncrementalPipelineOptions(), pycolmap.IncrementalPipelineOptions()
    allow(options, 0.0)
    assert options.todict() == before.todict()  # fine keypoints are mapped as they always were
    allow(options, 2.0)
    raised = [options.mapper.init_max_error, options.mapper.filter_max_reproj_error]
    raised += [options.triangulation.merge_max_reproj_error, options.triangulation.complete_max_reproj_error]
    assert raised == [6.0] * 4
    assert options.mapper.abs_pose_max_error == before.mapper.abs_pose_max_error == 12
    allow(options, 5.0)
    assert options.mapper.abs_pose_max_error == 15
    hold_intrinsics(options)
    assert [options.ba_refine_focal_length, options.ba_refine_extra_params] == [False, False]
    assert options.mapper.abs_pose_refine_focal_length is options.mapper.abs_pose_refine_extra_params is False
    assert incremental_options(MapperOptions()).mapper.filter_max_reproj_error == 4
    assert incremental_options(MapperOptions(keypoint_noise=2.0)).mapper.filter_max_reproj_error == 6
    assert incremental_options(MapperOptions(keypoint_noise=2.0)).ba_refine_focal_length  # when all images are there


def test_the_nearest_of_several_observations_of_an_image_is_kept() -> None:
    pycolmap.set_random_seed(1)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig, options.num_points3D = 3, 1, 1, 30
    truth = pycolmap.synthesize_dataset(options)
    assert repeated_observations(truth) == []
    point_id, point = next(iter(truth.points3D.items()))
    image_id, first = point.track.elements[0].image_id, point.track.elements[0].point2D_idx
    image = truth.images[image_id]
    spare = next(i for i, p in enumerate(image.points2D) if p.point3D_id != point_id)
    if image.points2D[spare].has_point3D():
        truth.delete_observation(image_id, spare)
    truth.add_observation(point_id, pycolmap.TrackElement(image_id, spare))
    assert repeated_observations(truth) == [(image_id, spare)]
    image.points2D[first].xy, image.points2D[spare].xy = (
        image.points2D[spare].xy.copy(),
        image.points2D[first].xy.copy(),
    )
    assert repeated_observations(truth) == [(image_id, first)]


@pytest.fixture(scope="module")
def facade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images of a facade, keypoints rounded to cells, focal lengths guessed a fifth too long."""
    folder = tmp_path_factory.mktemp("facade")
    world = World(folder / "d.db", noise=0.0)
    points = world.rng.uniform((-5, -3, 7.5), (5, 3, 8.5), size=(900, 3))
    for i in range(7):
        centre = np.array([1.2 * i - 3.6, 0.3 * (i % 3), 0.5 * (i % 2)])
        local = (points - centre) @ turned(7.0 * (i - 3)).T
        pixels = local[:, :2] / local[:, 2:] * FOCAL + (320, 240)
        seen = (local[:, 2] > 0) & (pixels > 0).all(1) & (pixels < (640, 480)).all(1)
        rounded = np.floor(pixels / CELL) * CELL + CELL / 2
        world.add(f"{i}.jpg", rounded[seen], np.flatnonzero(seen), claimed=1.2 * FOCAL, prior=False)
    world.match_all()
    world.db.close()
    verify(world.path, max_error=max_error(NOISE))
    return world.path


def test_the_model_with_most_support_is_kept(facade: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds, run = [], reconstruction._run

    def poorer(*args: Any) -> dict[int, pycolmap.Reconstruction]:
        """The middle one of three has all of its points, the others every other."""
        seeds.append(args[3].seed)
        models = run(*args)
        for model in models.values() if len(seeds) != 2 else ():
            for point_id in list(model.points3D)[::2]:
                model.delete_point3D(point_id)
        return models

    monkeypatch.setattr(reconstruction, "_run", poorer)
    monkeypatch.setattr(reconstruction, "finish", lambda *_: None)
    options = MapperOptions(seed=5, threads=1, colors=False, keypoint_noise=NOISE)
    (best,) = reconstruct(facade, tmp_path, tmp_path / "best", options, progress=False)
    assert seeds == [5, 6, 7]
    monkeypatch.setattr(reconstruction, "MOST_TRIED_AGAIN", 6)
    (first,) = reconstruct(facade, tmp_path, tmp_path / "first", options, progress=False)  # it has seven images
    assert seeds == [5, 6, 7, 5]
    assert best.points > 1.9 * first.points > 700


def test_a_facade_of_coarse_keypoints_depends_on_no_seed_and_no_threads(
    facade: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruction, "TRIALS", 1)
    counts, focal = [], []
    for seed, threads in ((0, 1), (0, 2), (3, -1)):
        options = MapperOptions(seed=seed, threads=threads, colors=False, keypoint_noise=NOISE)
        (best,) = reconstruct(facade, tmp_path, tmp_path / f"{seed}{threads}", options, progress=False)
        model = read_model(tmp_path / f"{seed}{threads}" / "0")
        assert best.registered == 7
        assert best.images_per_point == best.track_length  # one observation an image and point
        counts.append(best.points)
        focal.append([camera.focal_length for camera in model.cameras.values()])
        assert best.track_length > 6.3  # 4.6 at COLMAP's thresholds, which make several points of one
    assert max(counts) < 900
    assert focal[0] == focal[1]  # to the last digit
    assert min(counts) > 0.99 * max(counts)
    np.testing.assert_allclose(focal, FOCAL, rtol=0.03)
