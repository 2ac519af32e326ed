import pytest

from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors.choice import choose_features


def test_options_weights_and_files():
    plain, changed, weighted, file = choose_features(
        [
            "sift",
            "sift:contrast_threshold=0.04:resize_max=640",
            "d2d-hardnet:positions=hessian:sigmas=(1.5,3.0)",
            "x/f.h5",
        ],
        ["d2d-hardnet=w.pth"],
    )
    assert plain.conf == confs.extractors["sift"]
    assert changed.conf["model"]["contrast_threshold"] == 0.04
    assert changed.conf["preprocessing"] == {"grayscale": True, "resize_max": 640}
    assert weighted.conf["model"]["weights"] == "w.pth"
    assert weighted.conf["model"]["positions"] == "hessian"
    assert weighted.conf["model"]["sigmas"] == (1.5, 3.0)
    assert confs.extractors["d2d-hardnet"]["model"]["weights"] == "hardnet"  # the conf itself stays as it is
    assert (file.label, str(file.file), file.conf) == ("f", "x/f.h5", None)
    assert weighted.stem == "d2d-hardnet_positions=hessian_sigmas=_1.5_3.0_"


@pytest.mark.parametrize(
    ("features", "weights", "message"),
    [
        (["surf"], [], "'surf' is neither a feature nor"),
        (["sift", "sift"], [], "sift is named twice"),
        (["sift:fast"], [], "'fast' is not OPTION=VALUE"),
        (["sift"], ["w.pth"], "give FEATURE=FILE"),
        (["sift"], ["sift=w.pth"], "sift has no weights"),
        (["sift"], ["d2d-hardnet=w.pth"], "d2d-hardnet is not among the features"),
    ],
)
def test_what_cannot_be_read_is_named(features, weights, message):
    with pytest.raises(ConfigurationError, match=message):
        choose_features(features, weights)
