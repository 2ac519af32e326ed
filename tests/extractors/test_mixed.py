"""Mixed features: the keypoints of one part, the descriptors that the other's map has there."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc import extractors, weights
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors import dense
from posfeat_hloc.extractors.mixed import Extractor, Options
from posfeat_hloc.extractors.sift import grey_pixels
from posfeat_hloc.weights.loading import load_posfeat, save_posfeat
from tests.extractors.test_disk import random_disk, save_random_disk
from tests.networks.test_d2net import random_d2net
from tests.networks.test_l2net import as_tensor, bilinear_by_hand, calibrated_network, textured_image
from tests.networks.test_resunet import calibrated_posfeat, color_image, maps_by_hand
from tests.networks.test_superpoint import random_superpoint

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    weights.save(folder / "hardnet.safetensors", calibrated_network("hardnet").published(), {})
    weights.save(folder / "superpoint.safetensors", random_superpoint().state_dict(), {})
    weights.save(folder / "d2net.safetensors", random_d2net().state_dict(), {})
    save_posfeat(folder / "posfeat.safetensors", calibrated_posfeat(), "published")
    save_random_disk(folder / "disk.pth")
    caps = calibrated_posfeat().backbone.state_dict()
    weights.save(folder / "caps.safetensors", {f"net.{name}": tensor for name, tensor in caps.items()}, {})
    return folder


def path_of(folder: Path, network: str) -> str:
    return str(folder / (f"{network}.pth" if network == "disk" else f"{network}.safetensors"))


def grey(image: Tensor) -> Tensor:
    return torch.from_numpy(grey_pixels(image))[None].float() / 255


def map_by_hand(network: str, image: Tensor, folder: Path) -> tuple[np.ndarray, float, float]:
    """A network's map and where cell i lies: stride * i + offset."""
    with torch.inference_mode():
        if network == "superpoint":
            saved = weights.load(path_of(folder, network)).tensors
            sp = random_superpoint()
            sp.load_state_dict(saved)
            return F.normalize(sp(grey(image)[None]).descriptors[0], dim=0).numpy(), 8, 3.5
        if network == "d2net":
            d2 = random_d2net()
            d2.load_state_dict(weights.load(path_of(folder, network)).tensors)
            return d2(image[None])[0].numpy(), 4, 1.5
        if network == "disk":
            height, width = image.shape[1:]
            padded = F.pad(image[None], (0, -width % 16, 0, -height % 16))
            return random_disk().heatmap_and_dense_descriptors(padded)[1][0, :, :height, :width].numpy(), 1, 0
        assert network == "hardnet"
        hn = calibrated_network("hardnet")
        hn.load_published(weights.load(path_of(folder, network)).tensors)
        return hn(grey(image)[None])[0].numpy(), 4, 14


@pytest.mark.parametrize("network", ["hardnet", "superpoint", "d2net", "disk"])
def test_sift_keypoints_read_in_a_map(network: str, folder: Path) -> None:
    image = color_image(58, 71, 2)[0]
    sift = {"name": "sift", "max_keypoints": 12}
    extract = Extractor(Options(sift, network, path_of(folder, network), precision="fp32"), CPU)
    seen = grey(image) if extract.grayscale else image
    found = extract(seen[None])[0]
    expected = extractors.create(sift)(grey(image)[None])[0]
    np.testing.assert_array_equal(found.keypoints, expected.keypoints)
    np.testing.assert_array_equal(found.scores, expected.scores)
    values, stride, offset = map_by_hand(network, image, folder)
    for (x, y), descriptor in zip(found.keypoints, found.descriptors, strict=True):
        column, row = (x - offset) / stride, (y - offset) / stride
        if network == "superpoint":  # its authors put pixel 0 on the first cell and the right edge on the last
            column, row = (
                x / 8 * (values.shape[2] - 1) / values.shape[2],
                y / 8 * (values.shape[1] - 1) / values.shape[1],
            )
        by_hand = bilinear_by_hand(values, 4 * column + 14, 4 * row + 14)  # that reads cell (x - 14) / 4
        np.testing.assert_allclose(descriptor, by_hand, atol=2e-4)
    assert len(found) == 12


def test_d2d_keypoints_with_posfeats_descriptors(folder: Path) -> None:
    """At PoSFeat's own keypoints, PoSFeat's descriptors are its own; the grey part sees the grey of the image."""
    image = color_image(64, 80, 4)
    posfeat = {
        "name": "posfeat",
        "weights": path_of(folder, "posfeat"),
        "reproduce_official": False,
        "precision": "fp32",
    }
    options = Options(posfeat, "posfeat", path_of(folder, "posfeat"), precision="fp32")
    own, again = extractors.create(posfeat)(image)[0], Extractor(options, CPU)(image)[0]
    np.testing.assert_array_equal(own.keypoints, again.keypoints)
    np.testing.assert_allclose(own.descriptors, again.descriptors, atol=1e-5)
    d2d = {"name": "d2d", "weights": path_of(folder, "hardnet"), "max_keypoints": 9}
    mixed = Extractor(Options(d2d, "posfeat", path_of(folder, "posfeat")), CPU)
    assert not mixed.grayscale
    found = mixed(torch.cat([image.flip(2), image]))
    assert [len(features) for features in found] == [9, 9]
    np.testing.assert_array_equal(found[1].keypoints, extractors.create(d2d)(grey(image[0])[None])[0].keypoints)
    both = weights.sha256(folder / "hardnet.safetensors") + weights.sha256(folder / "posfeat.safetensors")
    assert mixed.weights_sha256 == hashlib.sha256(both.encode()).hexdigest()
    assert mixed.detection_noise == extractors.create(d2d).detection_noise


def test_the_head_of_posfeat_is_not_needed(folder: Path, tmp_path: Path) -> None:
    backbone = load_posfeat(path_of(folder, "posfeat")).backbone.state_dict()
    weights.save(tmp_path / "half.safetensors", {f"backbone.{name}": t for name, t in backbone.items()}, {})
    found = Extractor(Options({"name": "sift"}, "posfeat", str(tmp_path / "half.safetensors")), CPU)
    assert len(found(color_image(48, 53, 1))[0]) > 0


@pytest.mark.parametrize("network", ["hardnet", "superpoint", "d2net", "disk", "posfeat", "caps"])
def test_tiny_and_flat_images(network: str, folder: Path) -> None:
    extract = Extractor(Options({"name": "sift"}, network, path_of(folder, network)), CPU)
    channels = 1 if extract.grayscale else 3
    for size in ((1, 1), (5, 60), (40, 40)):
        found = extract(torch.full((2, channels, *size), 0.5))
        assert [features.descriptors.shape for features in found] == [(0, extract.descriptor.dimension)] * 2


def test_what_is_refused(folder: Path) -> None:
    def build(**options: Any) -> Extractor:
        return Extractor(Options(**options), CPU)

    with pytest.raises(ConfigurationError, match=r"descriptor must be one of hardnet, .*disk, caps, not 'rootsift'"):
        build(keypoints={"name": "sift"}, descriptor="rootsift")
    with pytest.raises(ConfigurationError, match="keypoints must be the model of a conf"):
        build(keypoints={"max_keypoints": 3})
    with pytest.raises(ConfigurationError, match="sift has no option radius"):
        build(keypoints={"name": "sift", "radius": 3})


def test_grey_images_stay_as_they_are(folder: Path) -> None:
    image = as_tensor(textured_image(60, 66, seed=4))
    options = Options({"name": "sift"}, "hardnet", path_of(folder, "hardnet"), precision="fp32")
    found = Extractor(options, CPU)(image)[0]
    read = dense.DenseDescriptor(dense.DenseOptions("hardnet", path_of(folder, "hardnet"), "fp32"), CPU)
    np.testing.assert_array_equal(found.descriptors, read(image[0], torch.from_numpy(found.keypoints)))


def test_caps_joins_both_maps_with_corner_pixels_on_corner_cells(folder: Path) -> None:
    """Against grid_sample as torch 1.2 had it: pixels over (size - 1) to [-1, 1], corners aligned."""
    image = color_image(58, 71, 2)[0]
    keypoints = torch.tensor([[0.0, 0.0], [70.0, 57.0], [12.3, 40.6], [35.0, 28.5]])
    read = dense.DenseDescriptor(dense.DenseOptions("caps", path_of(folder, "caps"), "fp32"), CPU)
    found = read(image, keypoints)
    state = weights.load(path_of(folder, "caps")).tensors
    fine, _, coarse = maps_by_hand({name[4:]: tensor for name, tensor in state.items()}, image[None])
    grid = (2 * keypoints / torch.tensor([70.0, 57.0]) - 1).double()[None, None]
    joined = torch.cat([F.grid_sample(m, grid, align_corners=True)[0, :, 0] for m in (coarse, fine)])
    torch.testing.assert_close(found.double(), F.normalize(joined, dim=0).T, rtol=0, atol=2e-4)
    torch.testing.assert_close(joined[:128, 0], coarse[0, :, 0, 0])
    torch.testing.assert_close(joined[128:, 1], fine[0, :, -1, -1])
