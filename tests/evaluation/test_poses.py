import numpy as np
import pycolmap
import pytest

from posfeat_hloc.errors import MappingError
from posfeat_hloc.evaluation.poses import TrueCamera, localization_errors, pose_errors, read_strecha_cameras, recall
from posfeat_hloc.localization.results import read_true_poses, write_results

CAMERA = """1379.74 0 760.095
0 1382.08 503.155
0 0 1
0 0 0
{rt}
{centre}
1536 1024
"""


def rotation(axis, degrees):
    return pycolmap.Rotation3d(np.deg2rad(degrees) * np.asarray(axis, float)).matrix()


@pytest.fixture
def model():
    pycolmap.set_random_seed(3)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs = 5
    options.num_cameras_per_rig = 1
    options.num_frames_per_rig = 1
    return pycolmap.synthesize_dataset(options)


IDENTITY = np.eye(3)


def truth_of(model, turn=IDENTITY, scale=1.0, shift=(0.0, 0.0, 0.0)):
    return {
        image.name: TrueCamera(
            image.cam_from_world().rotation.matrix() @ turn.T, scale * turn @ image.projection_center() + shift
        )
        for image in model.images.values()
    }


def test_a_similarity_of_the_truth_has_no_error(model):
    truth = truth_of(model, rotation([0.3, 0.8, -0.5], 70), 3.5, np.array([10.0, -4, 2]))
    errors = pose_errors(model, truth)
    assert len(errors.names) == 5
    np.testing.assert_allclose(errors.rotation, 0, atol=1e-6)
    np.testing.assert_allclose(errors.position, 0, atol=1e-8)


def test_a_turned_camera_shows_its_angle(model):
    truth = truth_of(model)
    name = sorted(truth)[2]
    turned = rotation([0, 0, 1], 2.5) @ truth[name].rotation
    truth[name] = TrueCamera(turned, truth[name].centre)
    errors = pose_errors(model, truth)
    expected = np.full(5, 0.5)  # the alignment turns all by a fifth of it
    expected[2] = 2.0
    np.testing.assert_allclose(errors.rotation, expected, atol=1e-3)


def test_position_errors_are_in_the_unit_of_the_truth(model):
    truth = truth_of(model, scale=100.0)
    name = sorted(truth)[0]
    truth[name] = TrueCamera(truth[name].rotation, truth[name].centre + np.array([1.0, 0, 0]))
    errors = pose_errors(model, truth)
    assert 0.3 < errors.position.max() <= 1.0  # the alignment takes up a part of one unit


def test_camera_files_hold_the_transposed_rotation(tmp_path):
    true = rotation([0.1, 0.9, 0.2], 40)
    rows = "\n".join(" ".join(f"{v:.12f}" for v in row) for row in true.T)
    (tmp_path / "0003.jpg.camera").write_text(CAMERA.format(rt=rows, centre="1 2 3"))
    cameras = read_strecha_cameras(tmp_path)
    np.testing.assert_allclose(cameras["0003.jpg"].rotation, true, atol=1e-9)
    np.testing.assert_allclose(cameras["0003.jpg"].centre, [1, 2, 3])


def test_errors_are_named(tmp_path, model):
    with pytest.raises(MappingError, match=str(tmp_path)):
        read_strecha_cameras(tmp_path)
    (tmp_path / "x.camera").write_text("1 2\nthree\n")
    with pytest.raises(MappingError, match=r"x\.camera"):
        read_strecha_cameras(tmp_path)
    with pytest.raises(MappingError, match="only 0 images"):
        pose_errors(model, {})


def moved(camera, degrees, shift):
    """A pose that is turned about its own centre and then carried away."""
    centre = camera.centre + np.asarray(shift, float)
    turned = rotation([0.6, 0, 0.8], degrees) @ camera.rotation
    return pycolmap.Rigid3d(pycolmap.Rotation3d(turned), -turned @ centre)


def test_localization_errors_need_no_alignment_and_count_what_is_missing(model):
    truth = truth_of(model)
    names = sorted(truth)
    changes = [(3, [0, 0, 0]), (0, [0.3, 0, 0.4]), (179, [1, 0, 0])]
    poses = {name: moved(truth[name], *change) for name, change in zip(names, changes, strict=False)}
    poses["other"] = poses[names[0]]
    errors = localization_errors(poses, truth)
    assert errors.names == names
    np.testing.assert_allclose(errors.rotation, [3, 0, 179, 180, 180], atol=1e-6)
    np.testing.assert_allclose(errors.position, [0, 0.5, 1, np.inf, np.inf], atol=1e-9)
    thresholds = [(0.25, 2), (0.25, 5), (0.6, 5), (2, 180), (np.inf, 180)]
    assert recall(errors, thresholds) == [0, 0.2, 0.4, 0.6, 1]


def test_true_poses_come_from_a_model_or_a_file(model, tmp_path):
    truth = truth_of(model)
    names = sorted(truth)
    model.write(tmp_path)
    poses = {f"night/{name.rpartition('/')[2]}": moved(truth[name], 0, [0, 0, 0]) for name in names}
    write_results(tmp_path / "poses.txt", poses)  # without the folder
    for found in (read_true_poses(tmp_path, names[1:]), read_true_poses(tmp_path / "poses.txt", sorted(poses)[1:])):
        assert len(found) == 4
        for (_, a), name in zip(sorted(found.items()), names[1:], strict=True):
            np.testing.assert_allclose(a.rotation, truth[name].rotation, atol=1e-9)
            np.testing.assert_allclose(a.centre, truth[name].centre, atol=1e-9)
    with pytest.raises(MappingError, match="none of the 1 queries"):
        read_true_poses(tmp_path / "poses.txt", ["x.jpg"])
