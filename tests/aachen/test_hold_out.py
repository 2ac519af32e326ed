import numpy as np
import pycolmap
import pytest
from PIL import Image

from posfeat_hloc.aachen.hold_out import hold_out
from posfeat_hloc.aachen.layout import open_dataset
from posfeat_hloc.errors import ConfigurationError, MappingError
from posfeat_hloc.localization.results import read_results


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
