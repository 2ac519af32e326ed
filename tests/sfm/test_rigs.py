"""Rigs: pairs of frames, faults in configurations, and a stereo camera whose baseline gives the scale."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from pipelines import sfm
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.sfm.rigs import frames_of, read_rigs, sequential_frame_pairs, simultaneous_pairs
from tests.rendering import FOCAL, HEIGHT, WIDTH, View, arc, render

BASELINE = 0.4


def configuration(folder: Path, right: dict[str, object] | None = None) -> Path:
    camera = {"camera_model_name": "SIMPLE_PINHOLE", "camera_params": [FOCAL, WIDTH / 2, HEIGHT / 2]}
    pose = {"cam_from_rig_rotation": [1, 0, 0, 0], "cam_from_rig_translation": [-BASELINE, 0, 0]}
    cameras = [
        {"image_prefix": "left/", "ref_sensor": True, **camera},
        {"image_prefix": "right/", **(pose if right is None else right), **camera},
    ]
    (folder / "rig.json").write_text(json.dumps([{"cameras": cameras}]))
    return folder / "rig.json"


def test_images_of_one_time_are_paired(tmp_path: Path) -> None:
    rigs = read_rigs(configuration(tmp_path))
    names = ["left/1.png", "left/2.png", "left/3.png", "right/1.png", "right/3.png", "else/1.png"]
    frames = frames_of(rigs, names)
    assert frames == [["left/1.png", "right/1.png"], ["left/2.png"], ["left/3.png", "right/3.png"]]
    assert simultaneous_pairs(frames) == [("left/1.png", "right/1.png"), ("left/3.png", "right/3.png")]
    assert {frozenset(pair) for pair in sequential_frame_pairs(frames, 1)} == {
        frozenset(pair)
        for pair in [
            ("left/1.png", "right/1.png"), ("left/3.png", "right/3.png"),
            ("left/1.png", "left/2.png"), ("right/1.png", "left/2.png"),
            ("left/2.png", "left/3.png"), ("left/2.png", "right/3.png"),
        ]
    }  # fmt: skip
    with pytest.raises(ConfigurationError, match="no two images were taken at the same time"):
        frames_of(rigs, ["left/1.png", "right/2.png"])


def test_faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'right/' has no cam_from_rig_rotation"):
        read_rigs(configuration(tmp_path, {}))
    with pytest.raises(ConfigurationError, match="no such file"):
        read_rigs(tmp_path / "none.json")
    for text in ("[", "[{}]", '[{"cameras": [{"image_prefix": "a/"}]}]'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ConfigurationError, match="not a rig configuration"):
            read_rigs(tmp_path / "bad.json")


@pytest.mark.skipif(not hasattr(pycolmap, "apply_rig_config"), reason="this pycolmap knows no rigs")
def test_a_stereo_camera_gives_the_scale(tmp_path: Path) -> None:
    views = arc(4)
    for side, shift in (("left", 0.0), ("right", -BASELINE)):
        (tmp_path / "photos" / side).mkdir(parents=True)
        for i, view in enumerate(views):
            seen = View(view.rotation, view.translation + np.array([shift, 0, 0]))
            Image.fromarray(render(seen)).save(tmp_path / f"photos/{side}/{i}.png")
    command = ["--images", tmp_path / "photos", "--rig", configuration(tmp_path), "--output", tmp_path / "out"]
    command += ["--feature", "sift", "--max-keypoints", 1000, "--pairs", "sequential", "--overlap", 2, "--quiet"]
    assert sfm.main([*map(str, command), "--no-loop-closure", "--threads", "1"]) == 0
    model = read_model(tmp_path / "out/sparse/0")
    images = {image.name: image for image in model.images.values()}
    assert len(images) == 8
    assert {len(frame.data_ids) for frame in model.frames.values()} == {2}
    for i in range(4):
        left, right = images[f"left/{i}.png"].cam_from_world(), images[f"right/{i}.png"].cam_from_world()
        np.testing.assert_allclose((right * left.inverse()).translation, [-BASELINE, 0, 0], atol=1e-12)
    found = [np.linalg.norm(images[f"left/{i}.png"].projection_center() - images["left/0.png"].projection_center())
             for i in (1, 2, 3)]  # fmt: skip
    wanted = [np.linalg.norm(view.centre - views[0].centre) for view in views[1:]]
    np.testing.assert_allclose(found, wanted, rtol=0.03)  # in the units of the baseline
