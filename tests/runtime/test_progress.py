"""Bars: signs of life within two seconds, and the time left from the first tenth."""

from __future__ import annotations

import io
import time

import pytest

from posfeat_hloc.runtime import progress
from posfeat_hloc.runtime.progress import Bar, span, waiting

Output = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(20, "1 min"), (200, "3 min"), (3599, "1 h 00 min"), (7800, "2 h 10 min"), (400_000, "5 days")],
)
def test_times_as_people_say_them(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_one_line_shows_stage_count_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    with Bar(total=8, desc="match", unit="pair", file=file, mininterval=0, ncols=60, ascii=True) as bar:
        bar.start_t -= 10
        monkeypatch.setattr(bar, "_time", lambda: bar.start_t + 10)
        bar.n = 4
        bar._ema_dt = bar._ema_dn = lambda *_: 0  # no steps yet: the mean rate counts
        bar.refresh()
        half = file.getvalue().split("\r")[-1]
        bar.n = 8
        bar.refresh()
    whole = file.getvalue().split("\r")[-1]
    assert half.split("|")[0] == "match      "
    assert half.split("|")[2].rstrip() == " 4/8 pairs, 10 s left"
    assert whole.split("|")[2].rstrip() == " 8/8 pairs, 10 s"
    assert len(half) <= 60


def test_the_time_left_is_told_once_after_the_first_tenth(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    now = [1000.0]
    monkeypatch.setattr(progress.time, "time", lambda: now[0])
    with Bar(total=50, desc="match", file=io.StringIO()) as bar:
        bar.start_t = now[0]
        for _ in range(50):
            now[0] += 20
            bar.update()
    assert capsys.readouterr().out == "match: 5 of 50 done, about 15 min left\n"


def test_a_short_time_is_not_worth_a_line(capsys: Output) -> None:
    with Bar(total=20, desc="match", file=io.StringIO()) as bar:
        for _ in range(20):
            bar.update()
    with Bar(total=20, disable=True) as bar:
        bar.update()
    assert capsys.readouterr().out == ""


def test_a_long_call_shows_what_is_counted_meanwhile(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_INTERVAL", 0)
    found = iter([3, 5, 4, 8, *[9] * 100])
    with waiting("verify", total=10, count=lambda: next(found), interval=0.05):
        time.sleep(0.4)
    shown = capsys.readouterr().err
    assert "3/10" in shown
    assert "10/10" in shown  # whatever was counted last


def test_a_count_that_fails_is_only_a_sign_of_life(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_INTERVAL", 0)

    def locked() -> int:
        raise OSError("database is locked")

    with waiting("verify", count=locked, interval=0.05):
        time.sleep(0.3)
    assert "verify     0 pairs, 00:00" in capsys.readouterr().err


def test_short_or_quiet_calls_show_nothing(capsys: Output) -> None:
    with waiting("map"):
        pass
    with waiting("map", progress=False, interval=0.01):
        time.sleep(0.05)
    assert capsys.readouterr().err == ""
