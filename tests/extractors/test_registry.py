"""How a conf becomes an extractor or a matcher, and what is said when it cannot."""

from types import SimpleNamespace

import pytest
import torch

from posfeat_hloc import extractors, matchers
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors import sift
from posfeat_hloc.matchers import dual_softmax, nearest


def test_an_extractor_is_built_with_its_options() -> None:
    extractor = extractors.create({"name": "sift", "max_keypoints": 12, "edge_threshold": 7.0})
    assert isinstance(extractor, sift.Extractor)
    assert extractor.options == sift.Options(max_keypoints=12, edge_threshold=7.0)
    assert extractor.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({"name": "nearest", "ratio": 0.7}, nearest.Options(ratio=0.7)),
        ({"name": "dual_softmax", "threshold": 0.3}, dual_softmax.Options(threshold=0.3)),
    ],
)
def test_a_matcher_is_built_with_its_options(model: dict[str, object], expected: object) -> None:
    assert matchers.create(model).options == expected  # type: ignore[attr-defined]


def test_the_conf_is_left_as_it_was() -> None:
    model = {"name": "sift", "max_keypoints": 12}
    extractors.create(model)
    assert model == {"name": "sift", "max_keypoints": 12}


def test_unknown_modules_are_named() -> None:
    with pytest.raises(ConfigurationError, match="no extractors module is called 'orb'"):
        extractors.create({"name": "orb"})
    with pytest.raises(ConfigurationError, match="no matchers module is called 'superglue'"):
        matchers.create({"name": "superglue"})


def test_unknown_options_are_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"sift has no option keypoints, nms; it has .*max_keypoints"):
        extractors.create({"name": "sift", "nms": 4, "keypoints": 5})
    with pytest.raises(ConfigurationError, match=r"nearest has no option threshold; it has .*ratio_sides"):
        matchers.create({"name": "nearest", "threshold": 0.1})


def test_a_missing_dependency_is_not_mistaken_for_a_missing_module(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_dependency(name: str) -> SimpleNamespace:
        raise ModuleNotFoundError("No module named 'imaginary'", name="imaginary")

    monkeypatch.setattr(extractors, "import_module", without_dependency)
    with pytest.raises(ModuleNotFoundError, match="imaginary"):
        extractors.create({"name": "sift"})
