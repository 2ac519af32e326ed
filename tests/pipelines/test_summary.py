"""The summary of a reconstruction, where no run of a command shows it."""

from pathlib import Path

from posfeat_hloc.cli.arguments import flag
from posfeat_hloc.cli.sfm_text import as_text
from posfeat_hloc.errors import wording
from posfeat_hloc.sfm.diagnosis.diagnose import Diagnosis
from posfeat_hloc.sfm.summary import SfmResult, as_json


def test_focal_lengths_too_far_apart_are_told_with_what_to_try() -> None:
    run = SfmResult(images=3, diagnosis=Diagnosis(focal_lengths=(591.4, 678.0)))
    with wording(flag):
        text = " ".join(as_text(run, "sift", Path("photos"), Path("out")).split())
    assert "focal lengths 591 to 678 px, estimated image by image" in text
    assert "--camera single" in text
    assert as_json(run, {})["focal_lengths_apart"] == (591.4, 678.0)
    assert "focal lengths" not in as_text(SfmResult(images=3), "sift", Path("photos"), Path("out"))
