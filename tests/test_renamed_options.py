"""Options that have other names than in earlier versions: what was recorded with the old ones is read as before."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posfeat_hloc import confs, extractors, weights
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.features import Features
from posfeat_hloc.networks.posfeat import PoSFeat
from posfeat_hloc.networks.small import SmallUNet
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.training.loop import RunFolder
from posfeat_hloc.training.pipeline import changed
from posfeat_hloc.training.posfeat import TrainOptions
from posfeat_hloc.training.stages import LossOptions
from posfeat_hloc.weights.loading import load_posfeat

OLD: dict[str, Any] = {
    "model": {"name": "posfeat", "max_keypoints": 8192, "radius": 1, "threshold": 0.9, "quirks": True},
    "weights": "abc",
    "preprocessing": {"grayscale": False, "resize_max": None},
}
"""What a feature file of an earlier version records."""

NEW: dict[str, Any] = OLD | {
    "model": {"name": "posfeat", "max_keypoints": 8192, "radius": 1, "threshold": 0.9, "reproduce_official": True}
}


def feature_file(path: Path) -> Path:
    with FeatureStore(path, OLD) as store:
        store.write("a.jpg", Features.empty(128), (10, 10))
        store.commit()
    return path


def test_a_feature_file_of_before_is_read_and_added_to(tmp_path: Path) -> None:
    path = feature_file(tmp_path / "f.h5")
    with FeatureStore(path, NEW) as store:
        assert store.configuration == NEW
        assert "a.jpg" in store.names()
    with FeatureStore(path) as store:
        assert confs.name_of(store.configuration) == "posfeat-hpatches"


def test_a_feature_file_of_before_made_otherwise_is_refused(tmp_path: Path) -> None:
    path = feature_file(tmp_path / "f.h5")
    other = NEW | {"model": NEW["model"] | {"reproduce_official": False}}
    with pytest.raises(Exception, match="reproduce_official: True there, False now"):
        FeatureStore(path, other)


def test_a_conf_with_old_names_gives_the_same_features_and_says_the_new_ones() -> None:
    image = torch.tensor(np.random.default_rng(0).uniform(size=(1, 3, 53, 70)), dtype=torch.float32)
    model = {"name": "posfeat", "weights": "posfeat-small", "precision": "fp32", "threshold": 0.0}
    with pytest.warns(DeprecationWarning, match="convention is now grid_alignment, quirks is now reproduce_official"):
        old = extractors.create(model | {"quirks": False, "convention": "published"})(image)[0]
    new = extractors.create(model | {"reproduce_official": False, "grid_alignment": "published"})(image)[0]
    assert len(new) > 20
    np.testing.assert_array_equal(old.keypoints, new.keypoints)
    np.testing.assert_array_equal(old.descriptors, new.descriptors)


def test_weights_with_old_metadata_are_read_as_they_were_trained(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    weights.save(path, PoSFeat("small").state_dict(), {"trunk": "small", "convention": "consistent"})
    loaded = load_posfeat(str(path))
    assert isinstance(loaded.backbone, SmallUNet)
    assert loaded.grid_alignment == "consistent"


def test_a_run_of_before_is_resumed_on_the_same_options_only(tmp_path: Path) -> None:
    options = TrainOptions(stage="detect", backbone="resnet18", color=0.5)
    search = replace(options.loss.line_to_window, sigma="official-code")
    now = asdict(replace(options, loss=replace(options.loss, line_to_window=search)))
    before = asdict(replace(options, loss=replace(options.loss, line_to_window=replace(search, sigma="repository"))))
    before["trunk"], before["colour"] = before.pop("backbone"), before.pop("color")
    search_before = before["loss"]["line_to_window"]
    search_before["convention"] = search_before.pop("grid_alignment")
    RunFolder(tmp_path, before).save(3)
    state = RunFolder(tmp_path, now).resume()
    assert state is not None
    assert state["step"] == 3
    with pytest.raises(ConfigurationError, match=r"other options \(color\)"):
        RunFolder(tmp_path, now | {"color": 1.0}).resume()


def test_settings_by_old_names() -> None:
    loss = changed(LossOptions(), ["line_to_window.convention=consistent", "line_to_window.noise=repository"])
    assert loss.line_to_window.grid_alignment == "consistent"
    assert loss.line_to_window.noise == "official-code"
