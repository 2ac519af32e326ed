"""Who hears what."""

import pytest

from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.runtime.reporter import QUIET, Callback, Progress, Terminal, listener, reporting


def test_a_callback_hears_notes_and_how_far_bars_are() -> None:
    heard: list[str | Progress] = []
    with reporting(Callback(heard.append)) as reporter:
        reporter.note("few images")
        for _ in Bar("ab", desc="match", unit="pair", disable=not reporter.progress):
            pass
        with Bar(total=5, desc="map", disable=True) as bar:
            bar.update(3)
    assert listener() is QUIET
    assert heard == [
        "few images", Progress("match", 1, 2, "pair"), Progress("match", 2, 2, "pair"), Progress("map", 3, 5, "it"),
    ]  # fmt: skip


def test_a_terminal_always_prints_notes_and_lines_only_beside_bars(capsys: pytest.CaptureFixture[str]) -> None:
    for progress in (True, False):
        terminal = Terminal(progress)
        terminal.note("few images")
        terminal.say("refine: 2 models")
    assert capsys.readouterr().out == "note: few images\nrefine: 2 models\nnote: few images\n"
    QUIET.note("nobody")
    assert capsys.readouterr().out == ""
