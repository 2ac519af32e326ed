import os
import pickle
import zipfile

import numpy as np
import pytest

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.evaluation.posed_lists import read_posed_pairs
from tests.rendering import arc

K0, K1 = np.array([[400.0, 0, 200], [0, 410, 150], [0, 0, 1]]), np.array([[300.0, 0, 100], [0, 310, 120], [0, 0, 1]])


def world_to_camera(view):
    return np.block([[view.rotation, view.translation[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])


POSES = [world_to_camera(view) for view in arc(3)]


def superglue_line(a="x/a.jpg", b="b.jpg", turns="0 0", pose=None):
    pose = POSES[1] @ np.linalg.inv(POSES[0]) if pose is None else pose
    numbers = " ".join(f"{value:.12g}" for value in [*K0.ravel(), *K1.ravel(), *pose.ravel()])
    return f"{a} {b} {turns} {numbers}\n"


def check(pair, first, second):
    relative = POSES[second] @ np.linalg.inv(POSES[first])
    point = np.array([0.3, -0.2, 7.0])
    in_0, in_1 = (POSES[k][:3, :3] @ point + POSES[k][:3, 3] for k in (first, second))
    np.testing.assert_allclose(pair.rotation @ in_0 + pair.translation, in_1, atol=1e-9)
    np.testing.assert_allclose(pair.rotation, relative[:3, :3], atol=1e-9)


def test_superglue_lists(tmp_path):
    (tmp_path / "pairs.txt").write_text("# a comment\n\n" + superglue_line() + superglue_line(turns="1 3"))
    first, second = read_posed_pairs(tmp_path / "pairs.txt")
    assert (first.name0, first.name1, first.turns, second.turns) == ("x/a.jpg", "b.jpg", (0, 0), (1, 3))
    np.testing.assert_allclose(first.intrinsics0, K0)
    np.testing.assert_allclose(first.intrinsics1, K1)
    check(first, 0, 1)


def objects(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def scene_info(**changes):
    """As MegaDepth-1500's files are: object arrays, None where an image has no pose."""
    info = {
        "image_paths": objects("s/a.jpg", None, "s/c.jpg"),
        "depth_paths": objects("s/a.h5", None, "s/c.h5"),
        "intrinsics": objects(K0, None, K1),
        "poses": objects(POSES[0], None, POSES[2]),
        "pair_infos": objects(((0, 2), np.float64(0.3), np.zeros((2, 4))), ((np.int64(2), np.int64(0)), 0.2, None)),
    }
    return info | changes


def test_megadepth_files_of_object_arrays_are_read_without_running_them(tmp_path):
    np.savez(tmp_path / "scene.npz", **scene_info())
    forward, backward = read_posed_pairs(tmp_path / "scene.npz")
    assert (forward.name0, forward.name1, backward.name0) == ("s/a.jpg", "s/c.jpg", "s/c.jpg")
    np.testing.assert_allclose(forward.intrinsics1, K1)
    check(forward, 0, 2)
    check(backward, 2, 0)


def test_plain_arrays_are_read_too(tmp_path):
    np.savez_compressed(
        tmp_path / "scene.npz",
        image_paths=np.array(["a.jpg", "b.jpg", "c.jpg"]),
        intrinsics=np.stack([K0, K1, K1]),
        poses=np.stack(POSES),
        pair_infos=np.array([[0, 1], [1, 2]]),
    )
    first, second = read_posed_pairs(tmp_path / "scene.npz")
    check(first, 0, 1)
    check(second, 1, 2)
    np.testing.assert_allclose(first.intrinsics0, K0)


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_in_a_file_is_executed(tmp_path):
    np.savez(tmp_path / "scene.npz", **scene_info(pair_infos=objects(Harmful(str(tmp_path / "made")))))
    with pytest.raises(ConfigurationError, match=r"scene\.npz: .*which is not an array"):
        read_posed_pairs(tmp_path / "scene.npz")
    assert not (tmp_path / "made").exists()
    with zipfile.ZipFile(tmp_path / "raw.npz", "w") as archive:
        archive.writestr("poses.npy", pickle.dumps(Harmful(str(tmp_path / "made"))))
    with pytest.raises(ConfigurationError, match=r"raw\.npz"):
        read_posed_pairs(tmp_path / "raw.npz")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no pairs"),
        ("a.jpg b.jpg\n", "line 1: has 2 fields, not 38"),
        (superglue_line() + "a b 0 0 1 2 3\n", "line 2: has 7 fields"),
        (superglue_line(a="a b"), "line 1"),
        (superglue_line().replace("400", "wide"), "wide"),
        (superglue_line(pose=2 * np.eye(4)), "not a rotation"),
        (superglue_line(pose=np.diag([1.0, 1, -1, 1])), "not a rotation"),
    ],
)
def test_lists_of_another_form_name_the_line(tmp_path, content, message):
    (tmp_path / "pairs.txt").write_text(content)
    with pytest.raises(ConfigurationError, match=message) as error:
        read_posed_pairs(tmp_path / "pairs.txt")
    assert "pairs.txt" in str(error.value)


def test_scene_files_of_another_form_are_named(tmp_path):
    path = tmp_path / "scene.npz"
    with pytest.raises(ConfigurationError, match="no such file"):
        read_posed_pairs(path)
    path.write_bytes(b"not a zip file")
    with pytest.raises(ConfigurationError, match=r"scene\.npz: cannot be read"):
        read_posed_pairs(path)
    np.savez(path, poses=np.stack(POSES))
    with pytest.raises(ConfigurationError, match="holds no image_paths"):
        read_posed_pairs(path)
    np.savez(path, **scene_info(pair_infos=objects(((0, 1), 0.3, None))))
    with pytest.raises(ConfigurationError, match="pair 0: has no pose"):
        read_posed_pairs(path)
    np.savez(path, **scene_info(pair_infos=objects(((0, 9), 0.3, None))))
    with pytest.raises(ConfigurationError, match="pair 0"):
        read_posed_pairs(path)
