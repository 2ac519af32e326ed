"""All files of a rendered data set agree with each other and with the geometry."""

import hashlib

import numpy as np
import pycolmap
import pytest
from PIL import Image

from posfeat_hloc.aachen.colmap_files import read_prepared
from posfeat_hloc.aachen.layout import open_dataset
from posfeat_hloc.aachen.miniature import MiniatureOptions, hold_out, make_miniature
from posfeat_hloc.aachen.nvm import NvmFile
from posfeat_hloc.errors import ConfigurationError, MappingError
from posfeat_hloc.localization.queries import read_queries
from posfeat_hloc.localization.results import read_results
from posfeat_hloc.stores.pairs import read_pairs
from tests.aachen.conftest import SMALL


def contents(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_points_project_to_their_observations_by_the_textbook(rendered):
    model = pycolmap.Reconstruction(rendered[0] / "3D-models/aachen_v_1_1")
    assert model.num_reg_images() == SMALL["database"]
    count = 0
    for image in model.images.values():
        focal, cx, cy, k = model.cameras[image.camera_id].params
        pose = image.cam_from_world().matrix()
        for point in image.points2D:
            if not point.has_point3D():  # seen by one image only
                continue
            x, y, z = pose @ [*model.points3D[point.point3D_id].xyz, 1]
            scale = focal * (1 + k * (x * x + y * y) / z**2)
            np.testing.assert_allclose(point.xy, [scale * x / z + cx, scale * y / z + cy], atol=1e-9)
            count += 1
    assert count > 100


def test_the_same_point_looks_alike_in_all_images(rendered):
    """Bright points are bright and dark ones dark wherever they are seen, so images and poses belong together."""
    root, _ = rendered
    model = pycolmap.Reconstruction(root / "3D-models/aachen_v_1_1")
    pictures = {
        i: np.asarray(Image.open(root / "images_upright" / image.name).convert("L"), float)
        for i, image in model.images.items()
    }
    values = []
    for point in model.points3D.values():
        places = [(e.image_id, model.images[e.image_id].points2D[e.point2D_idx].xy) for e in point.track.elements[:2]]
        values.append([pictures[i][int(xy[1]), int(xy[0])] for i, xy in places])
    first, second = np.array(values).T
    assert np.corrcoef(first, second)[0, 1] > 0.7
    assert np.corrcoef(first, np.roll(second, 1))[0, 1] < 0.5


def test_both_versions_hold_the_same_model(rendered):
    root, _ = rendered
    model = pycolmap.Reconstruction(root / "3D-models/aachen_v_1_1")
    nvm = NvmFile(root / "3D-models/aachen_cvpr2018_db.nvm")
    assert nvm.num_points == model.num_points3D()
    intrinsics = {query.name: query.camera for query in read_queries(root / "3D-models/database_intrinsics.txt")}
    by_name = {image.name: image for image in model.images.values()}
    assert {image.name for image in nvm.images} == set(by_name) == set(intrinsics)
    for image in nvm.images:
        np.testing.assert_allclose(image.translation, by_name[image.name].cam_from_world().translation, atol=1e-12)
        assert list(intrinsics[image.name].params) == list(model.cameras[by_name[image.name].camera_id].params)


def test_queries_truth_pairs_and_database_agree(rendered):
    root, queries = rendered
    truth = read_results(root / "ground_truth.txt")
    assert set(truth) == {query.name for query in queries}
    prepared = read_prepared(root / "database_v1_1.db")
    for kind in ("day", "night"):
        listed = read_queries(root / f"queries/{kind}_time_queries_with_intrinsics.txt")
        assert [query.name for query in listed] == [query.name for query in queries if query.kind == kind]
        for query in listed:
            with Image.open(root / "images_upright" / query.name) as picture:
                assert picture.size == (query.camera.width, query.camera.height)
            assert list(prepared[query.name].params) == list(query.camera.params)
    for query in queries:
        np.testing.assert_allclose(truth[query.name].matrix(), query.pose.matrix(), atol=1e-12)
    pairs = read_pairs(root / "image_pairs_to_match.txt")
    nights = {query.name for query in queries if query.kind == "night"}
    assert {a for a, _ in pairs if not a.startswith("db/")} == nights
    assert all(b.startswith("db/") for _, b in pairs)


def test_the_seed_decides_everything(rendered, tmp_path):
    make_miniature(tmp_path / "same", MiniatureOptions(**SMALL), progress=False)
    make_miniature(tmp_path / "other", MiniatureOptions(**SMALL, seed=1), progress=False)
    text = [name for name in contents(rendered[0]) if not name.endswith(".db")]
    here, same, other = (contents(root) for root in (rendered[0], tmp_path / "same", tmp_path / "other"))
    assert {name: here[name] for name in text} == {name: same[name] for name in text}
    assert all(here[name] != other[name] for name in text if name.endswith(".jpg"))


def test_folders_in_use_and_impossible_sizes_are_refused(rendered, tmp_path):
    before = contents(rendered[0])
    with pytest.raises(ConfigurationError, match="is not empty"):
        make_miniature(rendered[0], MiniatureOptions(**SMALL), progress=False)
    assert contents(rendered[0]) == before
    for wrong in ({"database": 1}, {"queries": 0}, {"size": (20, 100)}, {"layout": "flat"}):
        with pytest.raises(ConfigurationError):
            MiniatureOptions(**wrong)


@pytest.fixture(scope="module")
def held(rendered, tmp_path_factory):
    root = tmp_path_factory.mktemp("held") / "data"
    source = rendered[0]
    queries, size = hold_out(root, source / "3D-models/aachen_v_1_1", source / "images_upright", every=3)
    return root, queries, size


def test_queries_leave_the_map_and_keep_their_poses(rendered, held):
    root, queries, size = held
    full = pycolmap.Reconstruction(rendered[0] / "3D-models/aachen_v_1_1")
    left = pycolmap.Reconstruction(root / "3D-models/aachen_v_1_1")
    names = sorted(image.name for image in full.images.values())
    gone = names[1::3]
    assert {image.name for image in left.images.values()} == {
        "db/" + n.replace("/", "_") for n in names if n not in gone
    }
    truth = read_results(root / "ground_truth.txt")
    poses = {image.name: image.cam_from_world().matrix() for image in full.images.values()}
    for name in gone:
        flat = name.replace("/", "_")
        for query in (f"query/day/held_out/{flat}", f"query/night/made/{flat.removesuffix('.jpg')}_night.jpg"):
            np.testing.assert_allclose(truth[query].matrix(), poses[name], atol=1e-12)
    assert len(queries) == len(truth) == 2 * len(gone)
    centres = [image.projection_center() for image in full.images.values()]
    assert size == pytest.approx(max(np.linalg.norm(a - b) for a in centres for b in centres))


def test_points_keep_exactly_the_observations_of_the_images_that_stay(rendered, held):
    full = pycolmap.Reconstruction(rendered[0] / "3D-models/aachen_v_1_1")
    left = pycolmap.Reconstruction(held[0] / "3D-models/aachen_v_1_1")
    kept = {image.name.removeprefix("db/"): image for image in left.images.values()}

    def observed(model, names):
        result = {}
        for point in model.points3D.values():
            seen = {}
            for element in point.track.elements:
                image = model.images[element.image_id]
                name = image.name.removeprefix("db/") if names else image.name.replace("/", "_")
                seen[name] = tuple(image.points2D[element.point2D_idx].xy)
            seen = {name: place for name, place in seen.items() if name in kept}
            if len(seen) > 1:
                result[tuple(point.xyz)] = seen
        return result

    assert observed(left, True) == observed(full, False)
    assert len(left.points3D) > 50


def test_the_data_set_is_complete_and_night_is_darker(held):
    root, queries, _ = held
    for version in ("v1", "v1.1"):
        for protocol in ("hloc", "challenge"):
            assert open_dataset(root, version, protocol).database_names
    for day, night in zip(queries[::2], queries[1::2], strict=True):
        bright, dark = (np.asarray(Image.open(root / "images_upright" / q.name)).mean() for q in (day, night))
        assert dark < 0.6 * bright
        assert Image.open(root / "images_upright" / night.name).size == (night.camera.width, night.camera.height)


def test_missing_images_and_models_are_named(rendered, tmp_path):
    model = rendered[0] / "3D-models/aachen_v_1_1"
    with pytest.raises(ConfigurationError, match=r"lacks 5 images .* the first is db/1.jpg"):
        hold_out(tmp_path / "a", model, tmp_path)
    with pytest.raises(ConfigurationError, match="0 stay; two are needed"):
        hold_out(tmp_path / "a", model, rendered[0] / "images_upright", every=1)
    with pytest.raises(MappingError, match="no COLMAP model"):
        hold_out(tmp_path / "a", tmp_path, rendered[0] / "images_upright")
    assert not (tmp_path / "a").exists()
