import numpy as np
import pycolmap
import pytest

from posfeat_hloc.errors import ConfigurationError, MappingError
from posfeat_hloc.sfm.models import read_model, summarize
from posfeat_hloc.sfm.reconstruction import MapperOptions, reconstruct


def synthetic(folder, seed=1, images=6, points=150, name="d.db"):
    """COLMAP's own synthetic scene in a database, verified."""
    pycolmap.set_random_seed(seed)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs = images
    options.num_cameras_per_rig = 1
    options.num_frames_per_rig = 1
    options.num_points3D = points
    with pycolmap.Database.open(folder / name) as db:
        return pycolmap.synthesize_dataset(options, db)


@pytest.mark.parametrize("mapper", ["incremental", "global", "hierarchical"])
def test_mappers_recover_a_synthetic_scene(tmp_path, mapper):
    truth = synthetic(tmp_path)
    (best,) = reconstruct(tmp_path / "d.db", tmp_path, tmp_path / "sparse", MapperOptions(mapper), progress=False)
    assert best.registered == 6
    assert best.points == pytest.approx(150, abs=5)
    assert best.reprojection_error < 0.5
    model = read_model(tmp_path / "sparse/0")
    assert model.num_reg_images() == 6
    aligned = pycolmap.compare_reconstructions(model, truth, max_proj_center_error=0.05)
    assert aligned is not None
    assert max(error.rotation_error_deg for error in aligned["errors"]) < 0.5


def test_one_thread_and_a_seed_give_the_same_model_twice(tmp_path):
    synthetic(tmp_path)
    models = []
    for run in "ab":
        reconstruct(tmp_path / "d.db", tmp_path, tmp_path / run, MapperOptions(threads=1, seed=4), progress=False)
        models.append(read_model(tmp_path / run / "0"))
    points = [np.array([m.points3D[i].xyz for i in sorted(m.points3D)]) for m in models]
    np.testing.assert_array_equal(points[0], points[1])


def test_the_largest_model_comes_first_and_others_are_kept(tmp_path):
    first = synthetic(tmp_path, seed=1, images=4, name="a.db")
    second = synthetic(tmp_path, seed=2, images=7, name="b.db")
    with (
        pycolmap.Database.open(tmp_path / "a.db") as a,
        pycolmap.Database.open(tmp_path / "b.db") as b,
        pycolmap.Database.open(tmp_path / "d.db") as merged,
    ):
        for image in b.read_all_images():
            image.name = "other/" + image.name
            b.update_image(image)
        pycolmap.Database.merge(a, b, merged)
    models = reconstruct(tmp_path / "d.db", tmp_path, tmp_path / "sparse", progress=False)
    assert [model.registered for model in models] == [7, 4]
    assert read_model(tmp_path / "sparse/0").num_reg_images() == second.num_reg_images()
    assert read_model(tmp_path / "sparse/1").num_reg_images() == first.num_reg_images()
    assert not (tmp_path / "sparse.partial").exists()


def test_no_overlap_gives_no_model(tmp_path):
    with pycolmap.Database.open(tmp_path / "d.db"):
        pass
    assert reconstruct(tmp_path / "d.db", tmp_path, tmp_path / "sparse", progress=False) == []


def test_known_intrinsics_stay(tmp_path):
    truth = synthetic(tmp_path)
    options = MapperOptions(refine_intrinsics=False)
    reconstruct(tmp_path / "d.db", tmp_path, tmp_path / "sparse", options, progress=False)
    for camera_id, camera in read_model(tmp_path / "sparse/0").cameras.items():
        np.testing.assert_array_equal(camera.params, truth.cameras[camera_id].params)


def test_summary_counts_what_the_model_holds(tmp_path):
    truth = synthetic(tmp_path, images=3, points=40)
    summary = summarize(truth, tmp_path)
    observations = sum(len(point.track.elements) for point in truth.points3D.values())
    assert summary.observations == observations
    assert summary.track_length == pytest.approx(observations / len(truth.points3D))
    assert summary.images_per_point == summary.track_length  # a synthetic camera sees a point once


def test_two_keypoints_of_one_image_on_a_point_count_as_one_image(tmp_path):
    truth = synthetic(tmp_path, images=3, points=40)
    point_id, point = next(iter(truth.points3D.items()))
    seen = point.track.elements[0]
    image = truth.images[seen.image_id]
    spare = next(i for i, p in enumerate(image.points2D) if p.point3D_id != point_id)
    if image.points2D[spare].has_point3D():
        truth.delete_observation(image.image_id, spare)
    before = summarize(truth, tmp_path)
    truth.add_observation(point_id, pycolmap.TrackElement(image.image_id, spare))
    after = summarize(truth, tmp_path)
    assert after.observations == before.observations + 1
    assert after.images_per_point == before.images_per_point


def test_errors_name_the_folder_and_the_choice(tmp_path):
    with pytest.raises(MappingError, match=str(tmp_path)):
        read_model(tmp_path)
    with pytest.raises(ConfigurationError, match=r"'fast'.*incremental, global, hierarchical"):
        MapperOptions("fast")


def test_images_left_over_are_tried_again_from_the_largest_model(tmp_path, monkeypatch):
    synthetic(tmp_path)
    real, calls = pycolmap.incremental_mapping, []

    def mapping(database, images, output, options, input_path, **callbacks):
        calls.append((options.structure_less_registration_fallback, str(input_path)))
        models = real(database, images, output, options, input_path=input_path, **callbacks)
        if len(calls) == 1:
            models[0].deregister_frame(models[0].image(models[0].reg_image_ids()[-1]).frame_id)
        return models

    monkeypatch.setattr(pycolmap, "incremental_mapping", mapping)
    (best,) = reconstruct(tmp_path / "d.db", tmp_path, tmp_path / "sparse", progress=False)
    assert best.registered == 6
    (first, start), (second, grown_from) = calls
    assert (first, start, second) == (False, "", True)
    assert grown_from.endswith("largest")
    assert sorted(p.name for p in (tmp_path / "sparse").iterdir()) == ["0"]


def test_a_model_of_all_images_is_made_in_one_go(tmp_path, monkeypatch):
    synthetic(tmp_path)
    real, calls = pycolmap.incremental_mapping, []
    monkeypatch.setattr(pycolmap, "incremental_mapping", lambda *a, **k: calls.append(a) or real(*a, **k))
    assert reconstruct(tmp_path / "d.db", tmp_path, tmp_path / "sparse", progress=False)[0].registered == 6
    assert len(calls) == 1
