"""The command, on rendered images: drawings have the colors that the numbers say."""

import cv2
import numpy as np
import pytest

from pipelines import pictures
from posfeat_hloc import weights
from posfeat_hloc.sfm.models import landmarks, registered_names
from tests.networks.test_l2net import calibrated_network
from tests.sequences import write_sequence
from tests.training.test_posed_colmap import write_scene


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    folder = tmp_path_factory.mktemp("affine") / "graf"
    write_sequence(folder, "oxford", moved=True, seed=1, suffix=".png")
    return folder


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene") / "s"
    return folder, write_scene(folder, "pinhole")


def run(*arguments):
    return pictures.main([str(argument) for argument in arguments])


def read(path):
    return cv2.imread(str(path))[..., ::-1].astype(int)


def test_saliency_has_six_panels_for_each_image(sequence, tmp_path):
    hardnet = tmp_path / "hardnet.safetensors"
    weights.save(hardnet, calibrated_network("hardnet").published(), {})
    images = [sequence / "img1.png", sequence / "img2.png"]
    assert run("saliency", "--images", *images, "--weights", hardnet, "--output", tmp_path / "s.png") == 0
    drawn = read(tmp_path / "s.png")
    assert drawn.shape == (2 * (120 + 22), 6 * 160, 3)
    first = drawn[22:142, :160]
    np.testing.assert_array_equal(first, read(images[0]))
    colors = drawn[22 + 20 : 142 - 25, 160 + 20 : 320 - 25]
    assert len(np.unique(colors.reshape(-1, 3), axis=0)) > 50
    assert (drawn[22:30, 160:320] == 255).all()  # the map does not reach the border


def test_landmarks_are_green(scene, tmp_path, capsys):
    folder, model = scene
    name = registered_names(model)[0]
    image = next(i for i in model.images.values() if i.name == name)
    lost = [i for i, p in enumerate(image.points2D) if p.has_point3D()][:5]
    for i in lost:
        model.delete_observation(image.image_id, i)
    model.write(folder / "model")
    output = tmp_path / "l.png"
    assert run("landmarks", "--models", folder / "model", "--images", folder / "images", "--names", name,
               "--output", output) == 0  # fmt: skip
    keypoints, is_landmark = landmarks(model, name)
    assert f"{is_landmark.sum()} of {len(keypoints)} keypoints are landmarks" in capsys.readouterr().out
    drawn = read(output)[22:]
    for x, y in np.round(keypoints[is_landmark]).astype(int):
        if 3 <= y < drawn.shape[0] - 3 and 3 <= x < drawn.shape[1] - 3:
            assert np.abs(drawn[y, x] - (60, 200, 60)).max() < 90
    assert (np.abs(drawn - (220, 60, 40)).max(axis=2) < 5).any()


def test_matches_by_homography_and_by_model(sequence, scene, tmp_path, capsys):
    options = ["--feature", "sift:max_keypoints=80", "--matcher", "NN-mutual"]
    images = ["--images", sequence / "img1.png", sequence / "img2.png"]
    output = tmp_path / "m.png"
    assert run("matches", *images, "--homography", sequence / "H1to2p", *options, "--output", output) == 0
    told = capsys.readouterr().out
    assert float(told.split("matches, ")[1].split("%")[0]) > 70
    drawn = read(output)
    assert drawn.shape == (142, 2 * 160 + 56, 3)
    assert (np.abs(drawn[22:, :320] - (0, 255, 40)).max(axis=2) < 60).sum() > 50
    folder, model = scene
    names = registered_names(model)
    images = ["--images", *(folder / "images" / name for name in names[:2])]
    assert run("matches", *images, "--model", folder / "model", *options, "--lines", "--output", output) == 0
    assert "(epipolar distance)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["matches", "--homography", "graf/none"], "none: cannot be read as a homography"),
        (["matches", "--model", "graf"], "no COLMAP model can be read"),
        (["matches", "--homography", "graf/H1to2p", "--feature", "surf"], "'surf' is neither a feature"),
        (["matches", "--homography", "graf/H1to2p", "--feature", "sift", "--output", "p.txt"], "ends in .png or .jpg"),
    ],
)
def test_wrong_arguments_end_with_a_message(sequence, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(sequence.parent)
    assert run(*arguments, "--images", "graf/img1.png", "graf/img2.png") == 1
    assert message in capsys.readouterr().err
    assert not (sequence.parent / "matches.png").exists()
