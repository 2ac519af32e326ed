"""Pairs from a COLMAP model: its 3D points lie on their epipolar lines and where the images show them."""

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from posfeat_hloc.errors import ConfigurationError, ImageError, MappingError
from posfeat_hloc.geometry.rotations import rotation_angle
from posfeat_hloc.training.posed_colmap import ColmapPairOptions, ColmapPairSource, _count_common
from tests.training.cameras import epipolar_distances, marked, project, spot

OPTIONS = ColmapPairOptions(size=(96, 72), min_covisible=10, max_rotation=180)
CAMERAS = {
    "pinhole": ("SIMPLE_PINHOLE", 240, 160, [200.0, 118.0, 83.0]),
    "radial": ("SIMPLE_RADIAL", 200, 150, [190.0, 104.0, 72.0, 0.15]),
    "portrait": ("SIMPLE_RADIAL", 150, 211, [190.0, 75.0, 107.0, -0.1]),
    "fisheye": ("OPENCV_FISHEYE", 220, 160, [130.0, 131.0, 110.0, 80.0, 0.02, 0, 0, 0]),
}


def write_scene(folder: Path, camera: str) -> pycolmap.Reconstruction:
    """A model without noise and its images; each shows a bright spot at one of its points near the middle."""
    model, width, height, params = CAMERAS[camera]
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=5, num_points3D=150, num_points2D_without_point3D=0,
        camera_model_id=getattr(pycolmap.CameraModelId, model), camera_width=width, camera_height=height,
        camera_params=params,
    )  # fmt: skip
    pycolmap.set_random_seed(0)
    reconstruction = pycolmap.synthesize_dataset(options)
    (folder / "model").mkdir(parents=True)
    reconstruction.write(folder / "model")
    for image in reconstruction.images.values():
        path = folder / "images" / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        xy = central_point(reconstruction, image)[0] - 0.5
        Image.fromarray(marked(width, height, xy)).save(path)
    return reconstruction


def central_point(reconstruction: pycolmap.Reconstruction, image: pycolmap.Image) -> tuple[np.ndarray, int]:
    """The observation, a quarter of the width off the middle, that no border cuts; COLMAP pixel and point id."""
    camera = reconstruction.cameras[image.camera_id]
    goal = np.array([0.38 * camera.width, 0.55 * camera.height])
    point = min(
        (p for p in image.points2D if p.has_point3D()), key=lambda p: float(np.linalg.norm(np.array(p.xy) - goal))
    )
    return np.array(point.xy), point.point3D_id


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, pycolmap.Reconstruction]]:
    root = tmp_path_factory.mktemp("scenes")
    return {name: (root / name, write_scene(root / name, name)) for name in CAMERAS}


def open_scene(folder: Path, options: ColmapPairOptions = OPTIONS, keep: set[str] | None = None) -> ColmapPairSource:
    return ColmapPairSource(folder / "model", folder / "images", options, None if keep is None else keep.__contains__)


@pytest.mark.parametrize("camera", CAMERAS)
def test_points_lie_on_their_epipolar_lines(scenes: dict, camera: str) -> None:
    folder, reconstruction = scenes[camera]
    source = open_scene(folder)
    points = np.array([point.xyz for point in reconstruction.points3D.values()])
    for number, (i, j) in enumerate(source.pairs[:4]):

        class Chosen:
            def integers(self, _: int, number: int = number) -> int:
                return number

        pair = source.sample(Chosen())  # type: ignore[arg-type]
        poses = [
            next(im for im in reconstruction.images.values() if im.name == source.names[k]).cam_from_world().matrix()
            for k in (i, j)
        ]
        pixels0, pixels1 = (
            project(K, P[:, :3], P[:, 3], points) for K, P in zip((pair.K0, pair.K1), poses, strict=True)
        )
        assert epipolar_distances(pair, pixels0, pixels1).max() < 1e-3
        assert pair.image0.shape == pair.image1.shape == (72, 96, 3)


@pytest.mark.parametrize("camera", CAMERAS)
def test_pictures_show_the_points_where_the_calibration_says(scenes: dict, camera: str) -> None:
    folder, reconstruction = scenes[camera]
    source = open_scene(folder)
    checked = 0
    for i in np.unique(source.pairs).tolist():
        image = next(image for image in reconstruction.images.values() if image.name == source.names[i])
        xyz = reconstruction.points3D[central_point(reconstruction, image)[1]].xyz
        expected = project(source.calibrations[i], source.R[i], source.t[i], xyz[None])[0]
        if ((expected > 12) & (expected < [83, 59])).all():  # the whole spot is in the image
            np.testing.assert_allclose(spot(source._image(i)), expected, atol=0.12)
            checked += 1
    assert checked >= 2


def test_undistorted_pictures_have_no_empty_border(scenes: dict, tmp_path: Path) -> None:
    folder, reconstruction = scenes["radial"]
    for image in reconstruction.images.values():
        path = tmp_path / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((150, 200, 3), 200, np.uint8)).save(path)
    source = ColmapPairSource(folder / "model", tmp_path, OPTIONS)
    assert source._image(int(source.pairs[0, 0])).min() >= 199


def test_pairs_share_points_in_their_crops_and_are_not_turned_too_far(scenes: dict) -> None:
    folder, reconstruction = scenes["portrait"]
    images = sorted(reconstruction.images.values(), key=lambda image: image.name)
    source = open_scene(folder)
    seen = []
    for i, image in enumerate(images):
        ids = [p.point3D_id for p in image.points2D if p.has_point3D()]
        pixels = project(
            source.calibrations[i], source.R[i], source.t[i], np.array([reconstruction.points3D[k].xyz for k in ids])
        )
        keep = ((pixels >= 0) & (pixels <= [95, 71])).all(axis=1)
        seen.append({k for k, good in zip(ids, keep, strict=True) if good})
    angles, common = {}, {}
    for i in range(5):
        for j in range(i + 1, 5):
            angles[i, j] = float(rotation_angle(source.R[j] @ source.R[i].T))
            common[i, j] = len(seen[i] & seen[j])
    least, limit = sorted(common.values())[3], sorted(angles.values())[6] + 1e-6
    options = ColmapPairOptions(size=(96, 72), min_covisible=least, max_rotation=limit)
    expected = {pair for pair in common if common[pair] >= least and angles[pair] <= limit}
    selected = open_scene(folder, options)
    assert {tuple(pair) for pair in selected.pairs.tolist()} == expected
    assert 0 < len(selected) == len(expected) < 10
    assert "degrees" in selected.description
    parts = {p: common[p] / min(len(seen[p[0]]), len(seen[p[1]])) for p in common}
    low, high = sorted(parts.values())[2], sorted(parts.values())[7]
    options = ColmapPairOptions(size=(96, 72), min_covisible=1, max_rotation=180, overlap=(low, high))
    chosen = {tuple(pair) for pair in open_scene(folder, options).pairs.tolist()}
    assert chosen == {pair for pair, part in parts.items() if low <= part <= high}


@pytest.mark.parametrize(("least", "kept"), [(0.9, [(0, 1)]), (0.45, [(0, 1), (0, 2)]), (0.51, [(0, 1)])])
def test_overlap_is_a_part_of_what_the_image_with_fewer_points_sees(
    scenes: dict, monkeypatch: pytest.MonkeyPatch, least: float, kept: list[tuple[int, int]]
) -> None:
    """50 of the 50 points of image 1 are among the 100 of image 0; 20 of the 40 of image 2."""
    nothing = np.array([], np.int64)
    seen = [np.arange(100), np.arange(50), np.arange(80, 120), nothing, nothing]
    monkeypatch.setattr(ColmapPairSource, "_visible_points", lambda *_: (seen, np.ones(5)))
    options = ColmapPairOptions(size=(96, 72), min_covisible=1, max_rotation=180, min_baseline=0, overlap=(least, 1.0))
    assert [tuple(pair) for pair in open_scene(scenes["pinhole"][0], options).pairs.tolist()] == kept


def test_counting_of_common_points() -> None:
    rng = np.random.default_rng(0)
    points = [np.unique(rng.integers(0, 60, n)) for n in (0, 30, 20, 1, 40, 0)]
    counted = {(i, j): n for i, j, n in _count_common(points)}
    for i in range(6):
        for j in range(6):
            expected = len(set(points[i].tolist()) & set(points[j].tolist())) if i < j else 0
            assert counted.get((i, j), 0) == expected
    assert _count_common([]) == []


def test_only_kept_images_and_the_same_draws(scenes: dict) -> None:
    folder, reconstruction = scenes["pinhole"]
    keep = set(sorted(image.name for image in reconstruction.images.values())[:3])
    source = open_scene(folder, keep=keep)
    assert set(source.names) == keep
    a, b = (open_scene(folder).sample(np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(a.image0, b.image0)
    np.testing.assert_array_equal(a.R, b.R)
    with pytest.raises(ValueError, match="read-only"):
        a.image0[0, 0] = 1


def test_a_model_without_baselines_is_refused(scenes: dict) -> None:
    folder = scenes["pinhole"][0]
    options = ColmapPairOptions(size=(96, 72), min_covisible=10, max_rotation=180, min_baseline=100)
    with pytest.raises(MappingError, match="without baseline"):
        open_scene(folder, options)
    with pytest.raises(MappingError, match="share 1000 3D points"):
        open_scene(folder, ColmapPairOptions(size=(96, 72), min_covisible=1000))
    with pytest.raises(MappingError, match="no pair to train on"):
        open_scene(folder, keep=set())


def test_missing_resized_and_absent_files(scenes: dict, tmp_path: Path) -> None:
    folder, reconstruction = scenes["pinhole"]
    name = min(image.name for image in reconstruction.images.values())
    with pytest.raises(ImageError, match=r"\.png: no such file"):
        ColmapPairSource(folder / "model", tmp_path, OPTIONS)
    with pytest.raises(MappingError, match="no COLMAP model can be read"):
        ColmapPairSource(tmp_path, folder / "images", OPTIONS)
    for image in reconstruction.images.values():
        path = tmp_path / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((80, 120, 3), np.uint8)).save(path)
    source = ColmapPairSource(folder / "model", tmp_path, OPTIONS)
    with pytest.raises(ImageError, match=f"{name}: is 120x80 pixels, but its camera .* has 240x160"):
        source._image(0)


def test_a_camera_that_no_pinhole_can_replace(scenes: dict, tmp_path: Path) -> None:
    folder = scenes["pinhole"][0]
    reconstruction = pycolmap.Reconstruction(folder / "model")
    reconstruction.write_text(tmp_path)
    text = (tmp_path / "cameras.txt").read_text().splitlines()
    lines = [line if line.startswith("#") else "1 EQUIRECTANGULAR 240 160 240 160" for line in text]
    (tmp_path / "cameras.txt").write_text("\n".join(lines) + "\n")
    with pytest.raises(MappingError, match=r"pinhole|no COLMAP model"):  # older pycolmap does not know the model
        ColmapPairSource(tmp_path, folder / "images", OPTIONS)


def test_impossible_overlap() -> None:
    with pytest.raises(ConfigurationError, match="overlap"):
        ColmapPairOptions(overlap=(0.5, 0.2))
