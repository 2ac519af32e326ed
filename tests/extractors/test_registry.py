"""How a conf becomes an extractor or a matcher, and what is said when it cannot."""

from types import SimpleNamespace

import pytest
import torch

from posfeat_hloc import extractors, matchers
from posfeat_hloc.errors import ConfigurationError, ImageError
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


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (torch.rand(1, 1, 40, 40) * 255, "divide 8-bit values by 255"),
        (torch.randn(1, 1, 40, 40) * 3, "without|leave out the normalization"),
        (torch.full((1, 1, 40, 40), float("nan")), "must lie in"),
        (torch.zeros(1, 1, 40, 40, dtype=torch.uint8), r"images.float\(\) / 255"),
        (torch.rand(1, 3, 40, 40), r"takes grey images, a tensor \(B, 1, H, W\), not \(1, 3, 40, 40\)"),
        (torch.rand(40, 40), "takes grey images"),
        ("photo.jpg", "not str"),
    ],
)
def test_what_is_no_image_is_refused(images: object, told: str) -> None:
    with pytest.raises(ImageError, match=told):
        extractors.create({"name": "sift"})(images)  # type: ignore[arg-type]


def test_a_color_feature_refuses_grey_images_and_takes_overshoot() -> None:
    with pytest.raises(ImageError, match="repeat one channel three times"):
        extractors.check_images(torch.rand(2, 1, 8, 8), grayscale=False)
    extractors.check_images(torch.tensor([-0.1, 1.1]).expand(1, 3, 4, 2), grayscale=False)


@pytest.mark.parametrize("name", ["d2d", "posfeat"])
def test_every_bundled_feature_looks_at_its_images(name: str) -> None:
    model = {"d2d": {"name": "d2d", "weights": "hardnet"}, "posfeat": {"name": "posfeat", "weights": "posfeat-small"}}
    channels = 1 if name == "d2d" else 3
    with pytest.raises(ImageError, match="divide 8-bit values by 255"):
        extractors.create(model[name])(torch.rand(1, channels, 64, 64) * 255)
