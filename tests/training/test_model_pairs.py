"""Crops from a COLMAP model: corresponding points are projections of the same 3D point."""

from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from PIL import Image

from posfeat_hloc.errors import ImageError, MappingError
from posfeat_hloc.training import model_pairs
from posfeat_hloc.training.model_pairs import ColmapOptions, ColmapSource, add_model
from posfeat_hloc.training.view_pack import PackWriter, read_pack
from posfeat_hloc.training.views import ViewPair, transform

Scene = tuple[Path, Path, pycolmap.Reconstruction]
"""Folder of the model, folder of its images, the model."""

OPTIONS = ColmapOptions(size=128, light=0, min_points=6, min_covisible=20)
FOCAL, WIDTH, HEIGHT = 500.0, 480, 360


def slope_along(axis: int) -> np.ndarray:
    """An image whose grey value says half its column (0) or its row (1)."""
    return np.round(np.mgrid[:HEIGHT, :WIDTH][1 - axis] / 2).astype(np.uint8)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Model and images of a synthetic scene without noise: five cameras around 400 points."""
    folder = tmp_path_factory.mktemp("scene")
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1,
        num_cameras_per_rig=1,
        num_frames_per_rig=5,
        num_points3D=400,
        num_points2D_without_point3D=0,
        camera_model_id=pycolmap.CameraModelId.SIMPLE_PINHOLE,
        camera_width=WIDTH,
        camera_height=HEIGHT,
        camera_params=[FOCAL, WIDTH / 2, HEIGHT / 2],
    )
    pycolmap.set_random_seed(0)
    reconstruction = pycolmap.synthesize_dataset(options)
    (folder / "model").mkdir()
    reconstruction.write(folder / "model")
    (folder / "images").mkdir()
    for image in reconstruction.images.values():
        path = folder / "images" / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), slope_along(0))
    return folder / "model", folder / "images", reconstruction


def projections(reconstruction: pycolmap.Reconstruction) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Of each image: ids of its 3D points and their pixels, (0, 0) the centre of the first one, by K [R | t] X."""
    result = {}
    for image in reconstruction.images.values():
        ids = np.array([p.point3D_id for p in image.points2D if p.has_point3D()])
        world = np.array([reconstruction.points3D[i].xyz for i in ids])
        camera = np.c_[world, np.ones(len(world))] @ image.cam_from_world().matrix().T
        pixels = FOCAL * camera[:, :2] / camera[:, 2:] + [WIDTH / 2, HEIGHT / 2] - 0.5
        result[image.image_id] = (ids, pixels)
    return result


@pytest.fixture
def crops(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The transforms of all crops drawn in a test, crop pixel to image pixel."""
    drawn: list[np.ndarray] = []
    original = model_pairs._random_similarity

    def remembered(*args: object) -> np.ndarray:
        drawn.append(original(*args))  # type: ignore[arg-type]
        return drawn[-1]

    monkeypatch.setattr(model_pairs, "_random_similarity", remembered)
    return drawn


def draw(source: ColmapSource, seed: int) -> ViewPair | None:
    return source.sample(np.random.default_rng(seed))


def test_points_are_projections_of_the_same_3d_points(scene: Scene, crops: list[np.ndarray]) -> None:
    source, projected = ColmapSource(scene[0], scene[1], OPTIONS), projections(scene[2])
    drawn = 0
    for seed in range(12):
        crops.clear()
        pair = draw(source, seed)
        if pair is None:
            continue
        drawn += 1
        points = [
            transform(crop, p.astype(np.float64)) for crop, p in zip(crops, (pair.points0, pair.points1), strict=True)
        ]
        explained = []
        for image0, (ids0, pixels0) in projected.items():
            for image1, (ids1, pixels1) in projected.items():
                distance0 = np.linalg.norm(pixels0[:, None] - points[0][None], axis=2)
                distance1 = np.linalg.norm(pixels1[:, None] - points[1][None], axis=2)
                exact = max(distance0.min(axis=0).max(), distance1.min(axis=0).max()) < 1e-3
                same = np.array_equal(ids0[distance0.argmin(axis=0)], ids1[distance1.argmin(axis=0)])
                if image0 != image1 and exact and same:
                    explained.append((image0, image1))
        assert len(explained) == 1
    assert drawn >= 8


@pytest.mark.parametrize("axis", [0, 1])
def test_crops_show_what_their_points_say(scene: Scene, crops: list[np.ndarray], axis: int) -> None:
    source = ColmapSource(scene[0], scene[1], OPTIONS)
    for image_id in source.images:
        source.images[image_id] = slope_along(axis)
    pair = next(pair for seed in range(20) if (pair := draw(source, seed)) is not None)
    for view, points, crop in zip(pair.images, (pair.points0, pair.points1), crops[-2:], strict=True):
        places = transform(crop, points.astype(np.float64))
        in_image = ((places >= 8) & (places <= [WIDTH - 9, HEIGHT - 9])).all(axis=1)
        columns, rows = np.round(points[in_image]).astype(int).T
        np.testing.assert_allclose(view[rows, columns], places[in_image, axis] / 2, atol=1.5)


def test_points_keep_the_margin_and_their_number(scene: Scene) -> None:
    source = ColmapSource(scene[0], scene[1], ColmapOptions(size=128, min_points=6, min_covisible=20, max_points=9))
    pairs = [pair for seed in range(12) if (pair := draw(source, seed)) is not None]
    assert len(pairs) >= 6
    for pair in pairs:
        assert 6 <= len(pair.points0) == len(pair.points1) <= 9
        for points in (pair.points0, pair.points1):
            assert points.min() >= 16
            assert points.max() <= 127 - 16


def test_crops_turn_and_magnify_within_the_options(scene: Scene, crops: list[np.ndarray]) -> None:
    options = ColmapOptions(size=128, scale=1.5, rotation=10, light=0, min_covisible=20)
    source = ColmapSource(scene[0], scene[1], options)
    for seed in range(60):
        draw(source, seed)
    zooms = np.array([np.sqrt(np.linalg.det(crop[:2, :2])) for crop in crops])
    angles = np.array([np.rad2deg(np.arctan2(crop[1, 0], crop[0, 0])) for crop in crops])
    assert 1 / 1.5 <= zooms.min() < 0.8
    assert 1.25 < zooms.max() <= 1.5
    assert angles.std() == pytest.approx(10, rel=0.25)


def test_the_same_seed_gives_the_same_pair(scene: Scene) -> None:
    first, second = (ColmapSource(scene[0], scene[1], OPTIONS) for _ in range(2))
    seed = next(seed for seed in range(20) if draw(first, seed) is not None)
    a, b = draw(first, seed), draw(second, seed)
    assert a is not None
    assert b is not None
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.points0, b.points0)
    np.testing.assert_array_equal(a.points1, b.points1)


def test_only_the_kept_images_are_used(scene: Scene) -> None:
    by_name = {image.name: image.image_id for image in scene[2].images.values()}
    keep = set(sorted(by_name)[1:4])
    source = ColmapSource(scene[0], scene[1], OPTIONS, keep)
    assert set(source.images) == {by_name[name] for name in keep}
    assert len(source.pairs) == 3


def test_pairs_share_enough_points(scene: Scene) -> None:
    seen = {image_id: set(ids.tolist()) for image_id, (ids, _) in projections(scene[2]).items()}
    common = {(a, b): len(seen[a] & seen[b]) for a in seen for b in seen if a < b}
    limit = sorted(common.values())[4]
    source = ColmapSource(scene[0], scene[1], ColmapOptions(min_covisible=limit))
    assert set(source.pairs) == {pair for pair, count in common.items() if count >= limit}


def test_inaccurate_points_are_left_out(scene: Scene, tmp_path: Path) -> None:
    reconstruction = pycolmap.Reconstruction(scene[0])
    bad = sorted(reconstruction.points3D)[::2]
    for point_id in reconstruction.points3D:
        reconstruction.points3D[point_id].error = 5.0 if point_id in bad else 0.5
    reconstruction.write(tmp_path)
    source = ColmapSource(tmp_path, scene[1], OPTIONS)
    used = {point_id for seen in source.observations.values() for point_id in seen}
    assert used
    assert not used & set(bad)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(MappingError, match="no COLMAP model can be read from this folder"):
            ColmapSource(folder, tmp_path, OPTIONS)


def test_images_without_common_points(scene: Scene) -> None:
    with pytest.raises(MappingError, match="no two images share 100000 3D points"):
        ColmapSource(scene[0], scene[1], ColmapOptions(min_covisible=100_000))


def test_a_missing_image(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        ColmapSource(scene[0], tmp_path, OPTIONS)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Two synthetic cameras of 400 x 300 pixels that see 200 points, and black photographs of that size."""
    folder = tmp_path_factory.mktemp("model")
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=3, num_points3D=200,
        camera_width=400, camera_height=300, camera_model_id=pycolmap.CameraModelId.SIMPLE_PINHOLE,
        camera_params=[350, 200, 150],
    )  # fmt: skip
    pycolmap.set_random_seed(0)
    reconstruction = pycolmap.synthesize_dataset(options)
    (folder / "sparse").mkdir()
    reconstruction.write(folder / "sparse")
    for image in reconstruction.images.values():
        path = folder / "images" / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (400, 300)).save(path)
    return folder, reconstruction


def test_points_and_poses_agree_in_stored_pixels(model, tmp_path):
    folder, reconstruction = model
    with PackWriter(tmp_path / "views.h5", max_size=200) as writer:
        count = add_model(writer, folder / "sparse", folder / "images", most=100, seed=0)
    pack = read_pack(tmp_path / "views.h5")
    assert count == len(pack.pairs) > 0
    assert {image.shape for image in pack.images} == {(150, 200, 3)}
    images = {image.name: image for image in reconstruction.images.values()}
    for pair in pack.pairs:
        # half the size: focal length and principal point halve, in pixels whose centres are whole numbers
        expected = [[175, 0, 99.5], [0, 175, 74.5], [0, 0, 1]]
        np.testing.assert_allclose(pair.calibrations, [expected, expected])
        ones = np.ones(len(pair.points))
        lines = np.c_[pair.points[:, :2], ones] @ pair.fundamental.T
        distance = np.abs((lines * np.c_[pair.points[:, 2:], ones]).sum(axis=1)) / np.linalg.norm(lines[:, :2], axis=1)
        assert np.median(distance) < 1.5
        stored = np.array([p.xy for p in images[pack.names[pair.image0]].points2D if p.has_point3D()]) / 2 - 0.5
        nearest = np.linalg.norm(stored[None] - pair.points[:, None, :2], axis=2).min(axis=1)
        assert nearest.max() < 1e-3


def test_no_more_pairs_than_asked_for(model, tmp_path):
    with PackWriter(tmp_path / "views.h5") as writer:
        assert add_model(writer, model[0] / "sparse", model[0] / "images", most=1, seed=0) == 1
