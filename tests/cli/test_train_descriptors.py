import json

import cv2
import numpy as np
import pytest
import torch

from pipelines import pack_views, train_descriptors
from posfeat_hloc.training.view_pack import read_pack
from posfeat_hloc.weights.loading import load_l2net, load_posfeat
from tests.training.test_warped_views import _photograph

SMALL = ["--steps", "1", "--single", "1", "--fixed", "1", "--model", "0", "--size", "64", "--points", "16", "--quiet"]


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """Two folders of single photographs and one of a fixed camera whose third photograph moved."""
    folder = tmp_path_factory.mktemp("photographs ä")
    rng = np.random.default_rng(0)
    blocks = cv2.resize(rng.integers(0, 255, (24, 30, 3), np.uint8), (240, 192), interpolation=cv2.INTER_CUBIC)
    for name, image in {
        "first/a.jpg": _photograph(0),
        "second/b.jpg": _photograph(1),
        "camera/noon.jpg": blocks,
        "camera/dusk.jpg": (blocks * 0.5).astype(np.uint8),
        "camera/moved.jpg": np.roll(blocks, (6, 9), axis=(0, 1)),
    }.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), image[..., ::-1])
    output = folder / "views.h5"
    argv = ["--photos", str(folder / "first"), str(folder / "second"), "--fixed", str(folder / "camera")]
    assert pack_views.main([*argv, "--output", str(output)]) == 0
    return output


def test_a_pack_aligns_the_photographs_of_a_fixed_camera(pack):
    whole = read_pack(pack)
    assert whole.groups == ["first", "second", "camera", "camera", "camera"]
    assert len(whole.pairs) == 3
    names = {name: i for i, name in enumerate(whole.names)}
    pair = next(p for p in whole.pairs if {p.image0, p.image1} == {names["noon.jpg"], names["moved.jpg"]})
    matrix = pair.homography if pair.image0 == names["noon.jpg"] else np.linalg.inv(pair.homography)
    corners = np.array([[[40.0, 40], [180, 40], [180, 140], [40, 140]]])
    moved = cv2.perspectiveTransform(corners, matrix)[0] - corners[0]
    np.testing.assert_allclose(moved, [[9, 6]] * 4, atol=0.7)


def test_descriptors_and_head_are_trained_and_loaded_again(pack, tmp_path):
    run, head = tmp_path / "run", tmp_path / "head"
    argv = ["--pack", str(pack), "--held-out", "second", *SMALL]
    assert train_descriptors.main([*argv, "--init", "posfeat-small", "--output", str(run)]) == 0
    found = load_posfeat(str(run / "weights.safetensors"))
    start = load_posfeat("posfeat-small")
    assert found.backbone.backbone_name == "small"
    assert not torch.equal(found.backbone.conv_fine.weight, start.backbone.conv_fine.weight)
    assert found.localheader is not None
    assert not found.localheader.conv5.weight.any()  # an untrained head: the old one read other descriptors
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log] == [0, 1]
    assert (
        train_descriptors.main([*argv, "--init", str(run / "weights.safetensors"), "--head", "--output", str(head)])
        == 0
    )
    trained = load_posfeat(str(head / "weights.safetensors"))
    assert trained.localheader is not None
    assert trained.localheader.conv5.weight.any()


def test_hardnet_is_trained_by_the_same_command(pack, tmp_path):
    argv = ["--pack", str(pack), "--held-out", "second", *SMALL, "--second-order", "0.5"]
    assert train_descriptors.main([*argv, "--init", "hardnet", "--output", str(tmp_path / "run")]) == 0
    network, _ = load_l2net("hardnet", str(tmp_path / "run" / "weights.safetensors"))
    assert (network.window, network.eps) == (33, 0.01)
    argv = [*argv, "--network", "sosnet", "--init", str(tmp_path / "run" / "weights.safetensors")]
    assert train_descriptors.main([*argv, "--output", str(tmp_path / "sosnet")]) == 0
    load_l2net("sosnet", str(tmp_path / "sosnet" / "weights.safetensors"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--init", "posfeat-small", "--held-out", "nowhere"], "nowhere"),
        (["--held-out", "second"], "--init"),
        (["--init", "posfeat-small", "--network", "resnet50", "--held-out", "second"], "weights of small"),
        (["--init", "hardnet", "--head", "--held-out", "second"], "--head trains PoSFeat's keypoint head"),
    ],
)
def test_mistakes_are_named(pack, tmp_path, capsys, argv, message):
    assert train_descriptors.main(["--pack", str(pack), *SMALL, "--output", str(tmp_path / "run"), *argv]) == 1
    assert message in capsys.readouterr().err


def test_nothing_to_pack_is_said(tmp_path, capsys):
    assert pack_views.main(["--output", str(tmp_path / "views.h5")]) == 1
    assert "--photos" in capsys.readouterr().err
