"""The summary of a reconstruction, where no run of a command shows it."""

from pathlib import Path

from pipelines.summary import Run, as_json, as_text
from posfeat_hloc.sfm.diagnosis.diagnose import Diagnosis


def test_focal_lengths_too_far_apart_are_told_with_what_to_try() -> None:
    run = Run(images=3, diagnosis=Diagnosis(focal_lengths=(591.4, 678.0)))
    text = " ".join(as_text(run, "sift", Path("photos"), Path("out")).split())
    assert "focal lengths 591 to 678 px, estimated image by image" in text
    assert "--camera single" in text
    assert as_json(run, {})["focal_lengths_apart"] == (591.4, 678.0)
    assert "focal lengths" not in as_text(Run(images=3), "sift", Path("photos"), Path("out"))
