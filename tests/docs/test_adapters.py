"""The adapters for other tools do what these ask for; stand-ins have the base classes of the tools, and no more."""

import runpy
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from posfeat_hloc import confs, extractors
from tests.docs.pages import REPOSITORY
from tests.networks.test_resunet import color_image


@pytest.fixture
def stand_in(monkeypatch):
    """``stand_in("package.module", name=value)`` makes a module and the packages around it."""

    def make(name, **content):
        for end in range(1, name.count(".") + 2):
            part = ".".join(name.split(".")[:end])
            if part not in sys.modules:
                monkeypatch.setitem(sys.modules, part, ModuleType(part))
            parent, _, last = part.rpartition(".")
            if parent:
                monkeypatch.setattr(sys.modules[parent], last, sys.modules[part], raising=False)
        vars(sys.modules[name]).update(content)

    return make


def adapter(name):
    return runpy.run_path(str(REPOSITORY / "examples" / f"adapter_{name}.py"))


def expected(image, count):
    model = extractors.with_limit(confs.extractors["posfeat-small"]["model"], count)
    return extractors.create(model)(image)[0]


def test_vismatch_gets_matches_and_all_keypoints(stand_in):
    class BaseMatcher(nn.Module):
        def __init__(self, device="cpu", **kwargs):
            super().__init__()
            self.device = device

    stand_in("vismatch.base_matcher", BaseMatcher=BaseMatcher)
    image = color_image(64, 96, 3)
    matcher = adapter("vismatch")["PosfeatMatcher"](max_num_keypoints=50)
    answer = matcher._forward(image[0], image[0])
    matched0, matched1, keypoints0, keypoints1, descriptors0, _, scores = answer
    assert len(answer) == 7
    np.testing.assert_array_equal(matched0, matched1)  # an image and itself
    assert len(matched0) == len(scores) == len(keypoints0) == 50
    np.testing.assert_array_equal(keypoints0, expected(image, 50).keypoints)
    np.testing.assert_array_equal(keypoints0, keypoints1)
    assert descriptors0.shape == (50, 128)


@pytest.mark.parametrize("release", [1, 2])
def test_deep_image_matching_gets_keypoints_in_its_own_order_of_colors(stand_in, monkeypatch, release):
    class ExtractorBase:
        features_as_half = True

        def __init__(self, config):
            self.config = {"extractor": {**self._default_conf, **config}}
            self._device = "cpu"

    reader = {"rasterio": None} if release == 2 else {}
    stand_in("deep_image_matching.extractors.extractor_base", ExtractorBase=ExtractorBase, **reader)
    stand_in("deep_image_matching.config", confs={}, opt_zoo={"extractors": ["sift"]})
    monkeypatch.setitem(sys.modules, "deep_image_matching.extractors.posfeat", None)
    loaded = adapter("deep_image_matching")
    config = sys.modules["deep_image_matching.config"]
    assert config.opt_zoo["extractors"] == ["sift", "posfeat"]
    extractor = loaded["PosfeatExtractor"](config.confs["posfeat+kornia_matcher"]["extractor"] | {"max_keypoints": 40})
    assert extractor.__class__.__module__ == "deep_image_matching.extractors.posfeat"
    assert not extractor.features_as_half
    image = (color_image(64, 96, 3) * 255).round()
    for colors in (image, image[:, :1].expand(-1, 3, -1, -1)):
        given = colors[0].permute(1, 2, 0).numpy()[..., :: 1 if release == 2 else -1]
        grey = (given[..., 0] == given[..., 1]).all()
        found = extractor._extract((given[..., 0] if grey else given).astype(np.float32))
        wanted = expected(colors / 255, 40)
        np.testing.assert_allclose(found["keypoints"], wanted.keypoints, atol=1e-3)
        assert found["descriptors"].shape == (128, 40)
        np.testing.assert_allclose(found["descriptors"].T, wanted.descriptors, atol=1e-3)
        assert found["scores"].shape == (40,)


def test_image_matching_webui_finds_the_model_and_its_confs(stand_in, monkeypatch):
    class BaseModel(nn.Module):
        def __init__(self, conf):
            super().__init__()
            self._init({**self.default_conf, **conf})

    stand_in("imcui.hloc.extract_features", confs={})
    stand_in("imcui.hloc.utils.base_model", BaseModel=BaseModel)
    monkeypatch.delitem(sys.modules, "imcui.hloc.extractors.posfeat", raising=False)
    sys.path.insert(0, str(REPOSITORY / "examples"))
    try:
        import adapter_image_matching_webui as loaded
    finally:
        sys.path.remove(str(REPOSITORY / "examples"))
    assert sys.modules["imcui.hloc.extractors.posfeat"] is loaded
    assert loaded.Posfeat.__module__ == "imcui.hloc.extractors.posfeat"
    conf = sys.modules["imcui.hloc.extract_features"].confs["posfeat-small"]
    model = loaded.Posfeat(conf["model"] | {"max_keypoints": 30})
    image = color_image(64, 96, 3)
    found = model._forward({"image": image})
    np.testing.assert_array_equal(found["keypoints"][0], expected(image, 30).keypoints)
    assert found["descriptors"][0].shape == (128, 30)
    assert isinstance(found["scores"][0], torch.Tensor)
    for name in ("adapter_image_matching_webui", "imcui.hloc.extractors.posfeat"):
        sys.modules.pop(name, None)
