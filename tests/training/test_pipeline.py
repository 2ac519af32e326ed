"""``--set``: every option of the losses by its name, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.training.options import TrainingOptions
from posfeat_hloc.training.pipeline import _names, changed, train_options
from posfeat_hloc.training.stages import LossOptions

DEFAULT = LossOptions()


def test_options_within_options() -> None:
    texts = ["max_distance=inf", "detection.sides=one", "line_to_window.inverse_temperature=1", "query_cell=8"]
    found = changed(DEFAULT, texts)
    assert found == replace(
        DEFAULT,
        max_distance=float("inf"),
        query_cell=8,
        detection=replace(DEFAULT.detection, sides="one"),
        line_to_window=replace(DEFAULT.line_to_window, inverse_temperature=1.0),
    )
    assert isinstance(found.line_to_window.inverse_temperature, float)
    assert changed(DEFAULT, []) == DEFAULT


def test_each_option_can_be_set_to_what_it_is() -> None:
    for name, value in _names(DEFAULT):
        assert changed(DEFAULT, [f"{name}={value}"]) == DEFAULT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_distance", "NAME one of .*detection.sides"),
        ("detection=1", "NAME one of"),
        ("detection.color=1", "NAME one of"),
        ("query_cell=8.5", "query_cell is 16"),
        ("query_cell=True", "query_cell is 16"),
        ("detection.sides=1", "sides is 'both'"),
        ("max_distance=far", "max_distance is 0.1"),
    ],
)
def test_what_cannot_be_set(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        changed(DEFAULT, [text])


def test_the_options_hand_them_on() -> None:
    found = train_options(["synthetic:X"], TrainingOptions(stage="describe", set=("directions=one",)), None)
    assert found.loss.directions == "one"
