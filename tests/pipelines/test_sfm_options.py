"""The confs that a command line of pipelines.sfm asks for."""

from dataclasses import fields
from importlib import import_module

import pytest

from pipelines.sfm_options import configurations, parser
from posfeat_hloc import confs, extractors


@pytest.mark.parametrize("name", confs.extractors)
def test_every_feature_takes_a_number_of_keypoints(name: str) -> None:
    before = extractors.keypoint_limit(confs.extractors[name]["model"])
    args = parser(None).parse_args(["--images", "x", "--feature", name, "--max-keypoints", "77", "--max-size", "640"])
    feature, _ = configurations(args)
    assert extractors.keypoint_limit(feature["model"]) == 77
    assert feature["preprocessing"]["resize_max"] == 640
    known = {f.name for f in fields(import_module(f"posfeat_hloc.extractors.{feature['model']['name']}").Options)}
    assert set(feature["model"]) <= known | {"name"}
    assert extractors.keypoint_limit(confs.extractors[name]["model"]) == before  # the conf itself stays
