"""The confs that the options of a reconstruction ask for."""

from dataclasses import fields
from importlib import import_module

import pytest

from pipelines import sfm
from posfeat_hloc import confs, extractors
from posfeat_hloc.sfm.job import configurations
from posfeat_hloc.sfm.options import SfmOptions


@pytest.mark.parametrize("name", confs.extractors)
def test_every_feature_takes_a_number_of_keypoints(name: str) -> None:
    before = extractors.keypoint_limit(confs.extractors[name]["model"])
    feature, _ = configurations(SfmOptions(feature=name, max_keypoints=77, max_size=640))
    assert extractors.keypoint_limit(feature["model"]) == 77
    assert feature["preprocessing"]["resize_max"] == 640
    known = {
        f.name for f in fields(import_module(f"posfeat_hloc.extractors.{confs.module_of(feature['model'])}").Options)
    }
    assert set(feature["model"]) <= known | {"name"}
    assert extractors.keypoint_limit(confs.extractors[name]["model"]) == before  # the conf itself stays


def test_a_feature_with_other_options() -> None:
    text = "d2d-hardnet:resize_max=3072:terms=absolute"
    feature, matcher = configurations(SfmOptions(feature=text))
    expected = confs.extractors["d2d-hardnet"]
    assert feature["model"] == expected["model"] | {"terms": "absolute"}
    assert feature["preprocessing"] == expected["preprocessing"] | {"resize_max": 3072}
    assert matcher == confs.matchers[confs.default_matchers["d2d-hardnet"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [("surf", "'surf' is neither a feature"), ("sift:fast", "not OPTION=VALUE"), ("a.h5", "'a.h5' is a file")],
)
def test_what_is_no_feature(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sfm.main(["--images", "x", "--feature", text])
    assert message in capsys.readouterr().err
