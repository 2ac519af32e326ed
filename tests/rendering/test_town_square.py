"""The renderer's cameras against COLMAP's, and visibility against rays cast one by one."""

import numpy as np
import pycolmap

from posfeat_hloc.rendering.textured_planes import TexturedPlane
from posfeat_hloc.rendering.town_square import (
    as_night,
    photograph,
    random_points,
    random_pose,
    town_square,
    visible_points,
)

CAMERA = pycolmap.Camera(model="SIMPLE_RADIAL", width=200, height=150, params=[150, 100, 75, -0.08])


def test_a_spot_appears_where_the_camera_model_projects_it():
    """Its centroid; the bright spot is so small that distortion and perspective do not move it."""
    pose = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([0.05, -0.1, 0.02, 0.99])), np.array([0.1, -0.2, 0.3]))
    size = 600
    for a, b in ((0.0, 0.0), (-0.7, 0.6), (0.75, -0.65), (0.1, 0.8)):
        x, y = np.meshgrid((np.arange(size) + 0.5) / size * 2 - 1, (np.arange(size) + 0.5) / size * 2 - 1)
        spot = 250 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * 0.02**2))
        texture = np.repeat(spot.astype(np.uint8)[..., None], 3, axis=2)
        wall = TexturedPlane(np.array([0, 0, 4.0]), np.array([2.0, 0, 0]), np.array([0, 1.6, 0]), texture)
        picture = photograph([wall], CAMERA, pose)[..., 0].astype(float)
        columns, rows = np.meshgrid(np.arange(200), np.arange(150))
        centroid = np.array([(columns * picture).sum(), (rows * picture).sum()]) / picture.sum()
        projected = CAMERA.img_from_cam(pose * (wall.centre + a * wall.u + b * wall.v)) - 0.5
        assert np.linalg.norm(centroid - projected) < 0.06


def hidden(point, centre, planes, own):
    """Whether another plane lies between; a ray against each parallelogram."""
    ray = point - centre
    for i, plane in enumerate(planes):
        matrix = np.stack([plane.u, plane.v, -ray], axis=1)
        if i == own or abs(np.linalg.det(matrix)) < 1e-9:
            continue
        a, b, t = np.linalg.solve(matrix, centre - plane.centre)
        if abs(a) <= 1 and abs(b) <= 1 and 1e-6 < t < 1 - 1e-6:
            return True
    return False


def test_visible_points_are_those_that_no_facet_hides():
    rng = np.random.default_rng(0)
    planes = town_square(rng, texels=5)
    points, owners = random_points(rng, planes, 300)
    found, hides = [], 0
    for _ in range(3):
        pose = random_pose(rng)
        seen, places = visible_points(planes, points, owners, CAMERA, pose)
        centre = pose.inverse().translation
        for i, point in enumerate(points):
            local = pose * point
            place = CAMERA.img_from_cam(local)
            inside = place is not None and 0 < place[0] < 200 and 0 < place[1] < 150
            expected = inside and not hidden(point, centre, planes, owners[i])
            hides += inside and not expected
            assert expected or not seen[i]
            found += [seen[i]] if expected else []
            if inside:
                np.testing.assert_allclose(places[i], place)
    assert hides > 5
    assert len(found) > 100
    assert np.mean(found) > 0.8  # the others are near an edge


def test_points_lie_on_their_facets():
    rng = np.random.default_rng(1)
    planes = town_square(rng, texels=5)
    points, owners = random_points(rng, planes, 200)
    for point, owner in zip(points, owners, strict=True):
        plane = planes[owner]
        solution, residual, *_ = np.linalg.lstsq(np.stack([plane.u, plane.v], axis=1), point - plane.centre, rcond=None)
        assert np.abs(solution).max() <= 1
        assert residual.sum() < 1e-18


def test_photographs_become_textures():
    red = np.zeros((50, 80, 3), np.uint8)
    red[..., 0] = 200
    planes = town_square(np.random.default_rng(0), [red], texels=5)
    assert all((plane.texture == (200, 0, 0)).all() for plane in planes)
    picture = photograph(planes, CAMERA, random_pose(np.random.default_rng(3)))
    assert np.median(picture[..., 0]) == 200
    assert picture[..., 1:].max() == 0


def test_nights_are_dark_noisy_and_repeatable():
    day = np.full((120, 160, 3), 180, np.uint8)
    night = as_night(day, np.random.default_rng(0))
    np.testing.assert_array_equal(night, as_night(day, np.random.default_rng(0)))
    assert night.mean() < 0.6 * day.mean()
    assert night[..., 0].mean() > night[..., 2].mean()  # yellow light
    assert np.diff(night[..., 1].astype(float), axis=1).std() > 2
