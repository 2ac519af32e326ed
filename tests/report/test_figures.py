"""Where things are drawn."""

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

pytest.importorskip("plotly", reason='the report needs pip install ".[report]"')
pytest.importorskip("matplotlib")

from posfeat_hloc import confs, extractors
from posfeat_hloc.errors import ImageError
from posfeat_hloc.evaluation.drawing import score_map
from posfeat_hloc.report.photographs import (
    UNUSED,
    USED,
    Thumbnail,
    compute_score_map,
    jpeg_uri,
    thumbnail,
    undistorted,
    with_keypoints,
    with_matches,
)
from posfeat_hloc.report.scene import Cameras, frusta, make_scene, upright
from posfeat_hloc.weights import BUNDLED


def blank(width=40, height=30, scale=0.5):
    return Thumbnail(np.zeros((height, width, 3), np.uint8), np.array([scale, scale]))


def test_pixel_centres_stay_pixel_centres():
    small = blank()
    # the centre of the first 2 x 2 block is the centre of the first small pixel
    np.testing.assert_allclose(small.places(np.array([[0.5, 0.5], [2.5, 4.5]])), [[0, 0], [1, 2]])


def test_keypoints_have_the_color_of_their_fate():
    keypoints = np.array([[20.5, 20.5], [60.5, 40.5]])
    picture = with_keypoints(blank(), keypoints, np.array([True, False]), 10)
    assert tuple(picture[10, 10]) == USED
    assert tuple(picture[20, 30]) == UNUSED
    assert not picture[25:, :20].any()
    assert with_keypoints(blank(), np.zeros((0, 2)), None, 10).sum() == 0


def test_matches_join_both_pictures():
    picture = with_matches(blank(), blank(30, 20), np.array([[10.5, 20.5]]), np.array([[40.5, 20.5]]), 5)
    assert picture.shape == (30, 40 + 6 + 30, 3)
    ends = picture[10, 5], picture[10, 46 + 20]
    assert all(end.max() > 200 for end in ends)
    assert picture[10, 20].max() > 100  # the line between
    assert not picture[20:30, :40].any()


def test_thumbnails_know_their_scale(tmp_path):
    pixels = np.zeros((600, 1000, 3), np.uint8)
    pixels[200:220, 700:720] = 255
    for name in ("a.png", "a.jpg"):
        Image.fromarray(pixels).save(tmp_path / name)
        small = thumbnail(tmp_path / name, 250)
        assert small.pixels.shape == (150, 250, 3)
        x, y = np.round(small.places(np.array([[709.5, 209.5]]))[0]).astype(int)
        assert small.pixels[y, x].min() > 180
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        thumbnail(tmp_path / "broken.jpg", 100)


def test_heat_grows_with_the_score():
    heat = score_map(np.linspace(0, 1, 100).reshape(10, 10)).astype(int)
    assert heat[0, 0].tolist() == [68, 1, 84]  # viridis begins violet
    assert heat[9, 9].tolist()[:2] > [240, 220]  # and ends yellow
    assert jpeg_uri(heat.astype(np.uint8)).startswith("data:image/jpeg;base64,")


def test_cameras_held_upright_make_z_up():
    np.testing.assert_allclose(upright(np.eye(3)[None]) @ [0, 1, 0], [0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(upright(np.eye(3)[None]) @ [0, 0, 1], [0, 1, 0], atol=1e-12)
    around = np.array([pycolmap.Rotation3d(np.array([0, a, 0])).matrix() for a in np.linspace(0, 2 * np.pi, 9)[:-1]])
    frame = upright(around)
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(frame @ [0, 1, 0], [0, 0, -1], atol=1e-9)


def test_frusta_open_where_cameras_look():
    pose = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([0, 0.5, 0])), np.array([1.0, 2, 3]))
    cameras = Cameras.of_poses({"a": pose}, "queries")
    lines = frusta(cameras, 0.5)[0]
    np.testing.assert_allclose(lines[0], pose.inverse().translation)
    local = pose * lines
    assert (local[:, 2] >= -1e-9).all()
    assert local[1] == pytest.approx([-0.5, -0.35, 0.7])


def test_far_points_are_left_out_and_the_rest_is_kept():
    model = pycolmap.Reconstruction()
    rng = np.random.default_rng(0)
    for xyz in [*rng.uniform(-1, 1, (300, 3)), np.array([1e4, 0, 0])]:
        model.add_point3D(xyz, pycolmap.Track(), np.array([10, 20, 30], np.uint8))
    scene = make_scene(model, [])
    assert scene.total == 301
    assert 290 <= len(scene.points) <= 300
    assert np.abs(scene.points).max() < 2
    empty = make_scene(pycolmap.Reconstruction(), [])
    assert len(empty.points) == 0


@pytest.mark.skipif("hardnet" not in BUNDLED, reason="no HardNet weights are shipped")
def test_the_score_map_of_d2d_is_what_its_keypoints_are_ranked_by(texture):
    picture = np.repeat(texture(width=120, height=90)[..., None], 3, axis=2)
    extractor = extractors.create(confs.extractors["d2d-hardnet"]["model"] | {"max_keypoints": 30})
    scores = compute_score_map(extractor, picture)
    image = torch.from_numpy(picture[..., 0].copy())[None, None].float() / 255
    found = extractor(image)[0]
    np.testing.assert_allclose(np.sort(scores.ravel())[::-1][:30], found.scores, rtol=1e-5)


def test_sift_has_no_score_map(texture):
    picture = np.repeat(texture()[..., None], 3, axis=2)
    assert compute_score_map(extractors.create(confs.extractors["sift"]["model"]), picture) is None


def test_an_undistorted_thumbnail_has_its_keypoints_at_the_same_places():
    camera = pycolmap.Camera(model="SIMPLE_RADIAL", width=800, height=600, params=[500, 400, 300, -0.15])
    keypoints = np.array([[100.0, 90.0], [400.0, 300.0], [640.0, 500.0]])
    pixels = np.zeros((300, 400, 3), np.uint8)
    small = Thumbnail(pixels, np.array([0.5, 0.5]))
    for x, y in small.places(keypoints):
        pixels[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2] = 255
    straight, places = undistorted(small, keypoints, camera)
    assert np.linalg.norm(straight.places(places)[0] - small.places(keypoints)[0]) > 3  # it has moved
    for x, y in straight.places(places):
        spot = straight.pixels[round(y) - 6 : round(y) + 7, round(x) - 6 : round(x) + 7, 0].astype(float)
        rows, columns = np.mgrid[-6:7, -6:7]
        assert abs((spot * rows).sum() / spot.sum()) < 1
        assert abs((spot * columns).sum() / spot.sum()) < 1
    pinhole = pycolmap.Camera(model="PINHOLE", width=800, height=600, params=[500, 500, 400, 300])
    assert undistorted(small, keypoints, pinhole)[0] is small


def test_points_know_the_images_that_observe_them():
    model = pycolmap.Reconstruction()
    model.add_point3D(np.zeros(3), pycolmap.Track(), np.zeros(3, np.uint8))
    scene = make_scene(model, [])
    assert (scene.names, scene.seen) == ([], [[]])
