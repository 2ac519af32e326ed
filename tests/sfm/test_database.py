import numpy as np
import pycolmap
import pytest

from posfeat_hloc.errors import MappingError, StoreError
from posfeat_hloc.features import Features, Matches
from posfeat_hloc.sfm.cameras import CameraOptions
from posfeat_hloc.sfm.database import build_database, describe_database, verify
from posfeat_hloc.stores import FeatureStore, MatchStore
from tests.rendering import HEIGHT, WIDTH, arc, calibration

NAMES = ["sub folder/ä.jpg", "b c.jpg", "d.jpg"]


@pytest.fixture
def scene(tmp_path):
    """Three views of 200 known points, 60 of each view's matches wrong, stored in our files."""
    rng = np.random.default_rng(0)
    points = rng.uniform([-2, -1, 5], [2, 1, 8], size=(200, 3))
    keypoints = []
    for view in arc(3):
        projected = (points @ view.rotation.T + view.translation) @ calibration().T
        keypoints.append((projected[:, :2] / projected[:, 2:]).astype(np.float32))
    with FeatureStore(tmp_path / "f.h5", {}) as store:
        for name, xy in zip(NAMES, keypoints, strict=True):
            store.write(name, Features(xy, np.ones(200, np.float32), np.eye(200, 8, dtype=np.float32)), (WIDTH, HEIGHT))
        store.commit()
    with MatchStore(tmp_path / "m.h5", {}) as store:
        for a, b in [(0, 1), (1, 2)]:
            indices = np.arange(200)
            indices[:60] = np.roll(indices[:60], 7)
            store.write(NAMES[a], NAMES[b], Matches(indices, np.ones(200, np.float32)), 200)
        few = np.full(200, -1)
        few[:14] = np.arange(14)
        store.write(NAMES[0], NAMES[2], Matches(few, np.ones(200, np.float32)), 200)
        store.commit()
    return tmp_path, keypoints


def build(folder, **options):
    pairs = [(NAMES[0], NAMES[1]), (NAMES[2], NAMES[1]), (NAMES[0], NAMES[2])]
    build_database(folder / "d.db", folder, folder / "f.h5", folder / "m.h5", NAMES, pairs, progress=False, **options)
    return folder / "d.db"


def test_keypoints_get_half_a_pixel_and_matches_keep_their_direction(scene):
    folder, keypoints = scene
    with pycolmap.Database.open(build(folder)) as db:
        ids = {image.name: image.image_id for image in db.read_all_images()}
        assert set(ids) == set(NAMES)
        for name, xy in zip(NAMES, keypoints, strict=True):
            np.testing.assert_allclose(db.read_keypoints(ids[name])[:, :2], xy + 0.5, atol=1e-4)
        stored = db.read_matches(ids[NAMES[0]], ids[NAMES[1]])
        expected = np.arange(200)
        expected[:60] = np.roll(expected[:60], 7)
        np.testing.assert_array_equal(stored[np.argsort(stored[:, 0])][:, 1], expected)
        # asked for in the other order than stored
        stored = db.read_matches(ids[NAMES[1]], ids[NAMES[2]])
        np.testing.assert_array_equal(stored[np.argsort(stored[:, 0])][:, 1], expected)


def test_pairs_with_too_few_matches_are_left_out(scene):
    folder, _ = scene
    assert describe_database(build(folder)).pairs == 2


def test_verification_keeps_true_matches_and_counts_by_image(scene):
    folder, _ = scene
    path = build(folder)
    verify(path, seed=3)
    report = describe_database(path)
    assert report.verified == 2
    assert report.verified_by_image == {NAMES[0]: 1, NAMES[1]: 2, NAMES[2]: 1}
    assert 280 <= report.inliers <= 300  # 140 true ones in each; a wrong one may lie on its epipolar line
    assert report.images == 3


def test_the_same_seed_verifies_the_same_matches(scene):
    folder, _ = scene
    inliers = []
    for threads in (1, 2):
        path = build(folder)
        verify(path, seed=5, threads=threads)
        with pycolmap.Database.open(path) as db:
            _, geometries = db.read_two_view_geometries()
        inliers.append([np.asarray(g.inlier_matches).tolist() for g in geometries])
    assert inliers[0] == inliers[1]


def test_cameras_are_shared_as_asked(scene):
    folder, _ = scene
    assert describe_database(build(folder, camera=CameraOptions("single"))).cameras == 1
    assert describe_database(build(folder, camera=CameraOptions("folder"))).cameras == 2
    assert describe_database(build(folder)).cameras == 3


def test_missing_matches_are_an_error(scene):
    folder, _ = scene
    with pytest.raises(StoreError, match=r"nowhere\.jpg"):
        build_database(
            folder / "d.db",
            folder,
            folder / "f.h5",
            folder / "m.h5",
            NAMES,
            [(NAMES[0], "nowhere.jpg")],
            progress=False,
        )


def test_a_damaged_database_is_named(scene):
    folder, _ = scene
    build(folder)
    content = (folder / "d.db").read_bytes()
    for damaged in (b"no database", content[:5000], content[:3000] + bytes(len(content) - 3000)):
        (folder / "d.db").write_bytes(damaged)
        with pytest.raises(MappingError, match=r"d\.db: cannot be read .*delete it and run again"):
            describe_database(folder / "d.db")
