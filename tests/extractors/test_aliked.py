"""The ALIKED extractor against kornia's own calls."""

from pathlib import Path
from types import SimpleNamespace

import kornia
import numpy as np
import pytest
import torch
from torch import Tensor

from posfeat_hloc import weights
from posfeat_hloc.errors import ConfigurationError, WeightsError
from posfeat_hloc.extractors.aliked import Extractor, Options
from posfeat_hloc.weights import kornia_networks as networks
from posfeat_hloc.weights.conversion import identify
from tests.extractors.peers import KORNIA_HAS_PEERS, WITHOUT_PEERS, random_aliked, save_random_aliked
from tests.networks.test_resunet import color_image

pytestmark = pytest.mark.skipif(not KORNIA_HAS_PEERS, reason=WITHOUT_PEERS)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights")
    for form in ("aliked-t16", "aliked-n16", "aliked-n32"):
        save_random_aliked(path / f"{form}.pth", form)
    return path


def image() -> Tensor:
    return color_image(45, 52, 3)


@pytest.mark.parametrize(("form", "dimension"), [("aliked-t16", 64), ("aliked-n16", 128), ("aliked-n32", 128)])
def test_keypoints_and_descriptors_are_kornias_in_the_order_of_scores(folder: Path, form: str, dimension: int) -> None:
    found = Extractor(Options(weights=str(folder / f"{form}.pth"), max_keypoints=12), CPU)(
        torch.cat([image().flip(2), image()])
    )[1]
    with torch.inference_mode():
        everything = random_aliked(form)(image())[0]
    best = everything.keypoint_scores.argsort(descending=True)[: len(found)]
    assert len(found) == min(12, everything.n) > 5
    assert found.descriptors.shape[1] == dimension
    np.testing.assert_allclose(found.keypoints, everything.keypoints[best], atol=1e-4)
    np.testing.assert_allclose(found.scores, everything.keypoint_scores[best], atol=1e-6)
    np.testing.assert_allclose(found.descriptors, everything.descriptors[best], atol=1e-5)
    assert np.all(np.diff(found.scores) <= 0)


def test_without_a_threshold_the_best_maxima_are_taken(folder: Path) -> None:
    weights_file = str(folder / "aliked-n16.pth")
    all_of_them, few = (
        Extractor(Options(weights=weights_file, threshold=0.0, max_keypoints=limit), CPU)(image())[0]
        for limit in (None, 7)
    )
    assert len(few) == 7 < len(all_of_them)
    with torch.inference_mode():
        scores = random_aliked().extract_dense_map(image())[1][0, 0]
    rows, columns = np.rint(all_of_them.keypoints.T[::-1]).astype(int)
    assert np.all((rows >= 0) & (rows < scores.shape[0]) & (columns >= 0) & (columns < scores.shape[1]))
    assert np.all(scores.numpy().max() >= all_of_them.scores)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 90), (8, 8), (8, 90), (33, 31)])
def test_tiny_and_flat_images(folder: Path, height: int, width: int) -> None:
    extractor = Extractor(Options(weights=str(folder / "aliked-n16.pth")), CPU)
    for picture in (torch.full((1, 3, height, width), 0.5), torch.rand(1, 3, height, width)):
        found = extractor(picture)[0]
        assert found.descriptors.shape == (len(found), 128)
        assert min(height, width) >= 8 or len(found) == 0


def test_the_weights_say_what_they_are(folder: Path) -> None:
    found = identify(str(folder / "aliked-n32.pth"))
    assert (found.architecture, found.name) == ("aliked", "ALIKED")
    assert found.parameters == sum(parameter.numel() for parameter in random_aliked("aliked-n32").parameters())


def test_what_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = str(folder / "aliked-n16.pth")
    with pytest.raises(ConfigurationError, match=r"threshold must be 0 or more, not -0\.1"):
        Extractor(Options(weights=file, threshold=-0.1), CPU)
    with pytest.raises(ConfigurationError, match="nms_radius must be at least 1, not 0"):
        Extractor(Options(weights=file, nms_radius=0), CPU)
    weights.save(tmp_path / "other.safetensors", {"unet.weight": torch.zeros(1)}, {})
    with pytest.raises(WeightsError, match=r"not the weights of ALIKED \(aliked-t16, aliked-n16, aliked-n32\)"):
        Extractor(Options(weights=str(tmp_path / "other.safetensors")), CPU)
    older = SimpleNamespace(__version__="0.8.2", feature=SimpleNamespace(DISK=kornia.feature.DISK))
    monkeypatch.setattr(networks, "kornia", older)
    with pytest.raises(WeightsError, match=r"ALIKED: kornia 0\.8\.2 does not have .* pip install 'kornia>=0\.9'"):
        Extractor(Options(weights=file), CPU)
