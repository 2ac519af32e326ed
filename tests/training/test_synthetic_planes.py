"""Rendered scenes: depth against rays traced one by one, images of both views against each other."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from posfeat_hloc.errors import ConfigurationError, DataError
from posfeat_hloc.geometry.rotations import rotation_angle
from posfeat_hloc.rendering.textured_planes import Camera, TexturedPlane, random_scene, rasterise, render
from posfeat_hloc.training.posed_pairs import PosedPair
from posfeat_hloc.training.synthetic_planes import PlanesOptions, PlanesSource, overlap, random_cameras
from tests.rendering import texture
from tests.training.cameras import epipolar_distances, project, turn

OPTIONS = PlanesOptions(size=(160, 120))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photographs")
    for i in range(3):
        smooth = cv2.GaussianBlur(np.stack([texture(300, 3 * i + c) for c in range(3)], axis=-1), (0, 0), 2)
        Image.fromarray(smooth[: 300 - 60 * i]).save(path / f"photo{i}.png")
    return path


@pytest.fixture(scope="module")
def pairs(folder: Path) -> list[PosedPair]:
    source = PlanesSource(folder, OPTIONS)
    drawn = [source.sample(np.random.default_rng(seed)) for seed in range(20)]
    found = [pair for pair in drawn if pair is not None]
    assert len(found) >= 6
    return found[:6]


def trace(planes: list[TexturedPlane], camera: Camera, x: int, y: int) -> tuple[int, float]:
    """The nearest plane on the ray of one pixel and its depth, plane by plane."""
    ray = camera.R.T @ np.linalg.inv(camera.K) @ [x, y, 1]
    centre = -camera.R.T @ camera.t
    best = 255, 0.0
    for i, plane in enumerate(planes):
        # centre + depth * ray = plane.centre + a u + b v
        depth, a, b = np.linalg.solve(np.stack([ray, -plane.u, -plane.v], axis=1), plane.centre - centre)
        hit = depth > 0 and (not plane.bounded or max(abs(a), abs(b)) <= 1)
        if hit and (best[0] == 255 or depth < best[1]):
            best = i, depth
    return best


def test_depth_and_occlusion_are_those_of_traced_rays(folder: Path) -> None:
    source = PlanesSource(folder, OPTIONS)
    several = set()
    for seed in range(4):
        rng = np.random.default_rng(seed)
        cameras = random_cameras(rng, OPTIONS)
        planes = random_scene(rng, source.photographs, cameras[0], OPTIONS.objects, OPTIONS.boxes)
        for camera in cameras:
            depth, labels = rasterise(planes, camera)
            for x, y in rng.integers(0, [160, 120], (60, 2)).tolist():
                expected = trace(planes, camera, x, y)
                assert labels[y, x] == expected[0]
                assert depth[y, x] == pytest.approx(expected[1], rel=1e-4)
                several.add(expected[0])
    assert len(several) >= 4


def test_facets_behind_the_camera_and_edge_on_are_not_seen() -> None:
    photo = np.full((20, 20, 3), 200, np.uint8)
    camera = Camera(np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]]), np.eye(3), np.zeros(3), (64, 48))
    x, y, z = np.eye(3)
    behind, edge_on = TexturedPlane(-2 * z, x, y, photo), TexturedPlane(2 * z, x, z, photo)
    assert not rasterise([behind, edge_on], camera)[0].any()
    assert not render([behind, edge_on], camera).any()
    through = TexturedPlane(
        np.array([0, 0.5, 0]), x, 3 * z, photo
    )  # a floor that reaches from behind the camera to before it
    depth, labels = rasterise([through], camera)
    assert depth[40, 32] == pytest.approx(0.5 * 50 / (40 - 23.5), rel=1e-4)
    assert (labels[:24] == 255).all()


def test_a_facet_shows_its_texture_upright_and_in_place() -> None:
    photo = np.zeros((40, 60, 3), np.uint8)
    photo[:20, :30], photo[20:, 30:] = 255, 100
    K = np.array([[60.0, 0, 30], [0, 60, 20], [0, 0, 1]])
    camera = Camera(K, np.eye(3), np.zeros(3), (61, 41))
    plane = TexturedPlane(np.array([0, 0, 1.0]), np.array([0.5, 0, 0]), np.array([0, 1 / 3, 0]), photo)
    picture = render([plane], camera)[..., 0]  # one texture pixel a pixel, half a pixel aside
    assert picture[10, 15] == 255
    assert picture[30, 45] == 100
    assert picture[10, 45] == picture[30, 15] == 0
    column = picture[10].astype(float)
    assert column.sum() / 255 == pytest.approx(30, abs=0.6)  # columns 0 (half) to 29, and half of 30


def test_pictures_of_both_views_agree_where_both_see_a_point(pairs: list[PosedPair]) -> None:
    x, y = np.meshgrid(np.arange(160), np.arange(120))
    points0 = np.c_[x.ravel(), y.ravel()].astype(np.float64)
    for pair in pairs:
        for one in (pair, pair.swapped()):
            points1, seen = one.transfer(points0)
            assert seen.mean() >= 0.2
            grid = points1[seen].astype(np.float32)
            read = cv2.remap(one.image1, grid[:, :1].copy(), grid[:, 1:].copy(), cv2.INTER_LINEAR)[:, 0]
            mine = one.image0.reshape(-1, 3)[seen]
            agree = np.abs(read.astype(float) - mine).mean()
            other = np.abs(read[::-1].astype(float) - mine).mean()
            assert agree < 6
            assert other > 5 * agree


def test_occluded_points_are_flagged() -> None:
    wall, board = np.full((50, 50, 3), 60, np.uint8), np.full((50, 50, 3), 200, np.uint8)
    x, y, z = np.eye(3)
    planes = [TexturedPlane(4 * z, 4 * x, 4 * y, wall, bounded=False), TexturedPlane(2 * z, 0.5 * x, 0.5 * y, board)]
    K = np.array([[80.0, 0, 63.5], [0, 80, 47.5], [0, 0, 1]])
    t = np.array([-1.0, 0, 0])
    cameras = [Camera(K, np.eye(3), shift, (128, 96)) for shift in (np.zeros(3), t)]
    images, depths = [render(planes, c) for c in cameras], [rasterise(planes, c)[0] for c in cameras]
    pair = PosedPair(images[0], images[1], K, K, np.eye(3), t, depths[0], depths[1])
    # the board covers columns 43.5 to 83.5 of view 0 and 3.5 to 43.5 of view 1; the wall moves 20 columns, the board 40
    points1, seen = pair.transfer(np.array([[63.0, 47], [100, 47], [35, 47], [10, 47]]))
    np.testing.assert_allclose(points1[:, 0], [23, 80, 15, -10], atol=1e-3)
    assert seen.tolist() == [True, True, False, False]
    assert images[0][47, 63, 0] == images[1][47, 23, 0] == 200
    common = 1 - (20 * 96 + 20 * 40) / (128 * 96)  # what leaves the view, and what the board hides
    assert overlap((cameras[0], cameras[1]), (depths[0], depths[1])) == pytest.approx(common, abs=0.06)


def test_true_points_lie_on_their_epipolar_lines(pairs: list[PosedPair]) -> None:
    for pair in pairs:
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, [160, 120], (40, 2))
        points = [pair.depth0[y, x] * np.linalg.solve(pair.K0, [x, y, 1.0]) for x, y in pixels]
        pixels1 = project(pair.K1, pair.R, pair.t, np.array(points))
        assert epipolar_distances(pair, pixels.astype(float), pixels1).max() < 1e-3


def test_views_keep_the_limits(pairs: list[PosedPair]) -> None:
    for pair in pairs:
        assert pair.image0.shape == (120, 160, 3)
        for K in (pair.K0, pair.K1):
            assert 40 <= np.rad2deg(2 * np.arctan(80 / K[0, 0])) <= 75
        assert 0.08 * 0.5 <= np.linalg.norm(pair.t) <= 0.6
        assert pair.depth0.min() > 0
        assert rotation_angle(pair.R) <= 80


def test_views_that_are_turned_or_see_too_little_are_not_given(folder: Path) -> None:
    for limits in (PlanesOptions(size=(160, 120), max_rotation=0.01), PlanesOptions(size=(160, 120), min_overlap=1.0)):
        source = PlanesSource(folder, limits)
        assert all(source.sample(np.random.default_rng(seed)) is None for seed in range(5))


def test_the_same_generator_gives_the_same_pair(folder: Path) -> None:
    source = PlanesSource(folder, OPTIONS)
    seed = next(seed for seed in range(20) if source.sample(np.random.default_rng(seed)) is not None)
    a, b = (PlanesSource(folder, OPTIONS).sample(np.random.default_rng(seed)) for _ in range(2))
    assert a is not None
    assert b is not None
    np.testing.assert_array_equal(a.image1, b.image1)
    np.testing.assert_array_equal(a.depth1, b.depth1)


def test_photographs_are_chosen_and_unusable_ones_counted(folder: Path, tmp_path: Path) -> None:
    assert len(PlanesSource(folder, OPTIONS, keep={"photo0.png", "photo2.png"}.__contains__)) == 2
    assert len(PlanesSource(folder, PlanesOptions(max_photographs=2))) == 2
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    Image.fromarray(np.zeros((20, 90, 3), np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(DataError, match=r"none of the 2 chosen photographs.*broken\.jpg"):
        PlanesSource(tmp_path, OPTIONS)
    Image.fromarray(np.zeros((90, 90), np.uint8)).save(tmp_path / "grey.png")
    source = PlanesSource(tmp_path, OPTIONS)
    assert len(source) == 1
    assert source.photographs[0].shape == (90, 90, 3)
    assert len(source.skipped) == 2
    assert "skipped: 2" in source.description
    with pytest.raises(ConfigurationError, match="no such folder"):
        PlanesSource(tmp_path / "none", OPTIONS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"objects": (3, 1)}, "objects 3 to 1"),
        ({"baseline": (0.0, 0.5)}, "baseline must be above 0"),
        ({"field_of_view": (40, 120)}, "field of view 5 to 100"),
        ({"size": (8, 8)}, "training size 8x8"),
    ],
)
def test_impossible_options(values: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PlanesOptions(**values)


def test_more_objects_than_one_can_be_seen_from_a_turned_camera() -> None:
    photo = np.full((32, 32, 3), 90, np.uint8)
    plane = TexturedPlane(np.array([0, 0, 3.0]), np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), photo)
    K = np.array([[100.0, 0, 49.5], [0, 100, 49.5], [0, 0, 1]])
    R = turn(0, 0, 90)
    camera = Camera(K, R, np.zeros(3), (100, 100))
    coarse = rasterise([plane], camera.resized((50, 50)))[0]
    fine = rasterise([plane], camera)[0]
    assert (fine > 0).mean() == pytest.approx((200 / 3 / 100) ** 2, abs=0.03)
    assert (coarse > 0).mean() == pytest.approx((fine > 0).mean(), abs=0.03)
