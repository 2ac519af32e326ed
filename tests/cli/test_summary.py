"""``--json``: one object on stdout, everything else on stderr; and no colors but on a terminal."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from posfeat_hloc import confs
from posfeat_hloc.cli.main import COMMANDS, main
from posfeat_hloc.cli.summary import Summary, plain, print_summary
from posfeat_hloc.runtime.colors import colored, label
from posfeat_hloc.sfm.models import ModelSummary

Output = pytest.CaptureFixture[str]


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_json_alone_goes_to_stdout(capsys: Output) -> None:
    def run() -> Summary:
        print("note: something")
        return Summary("5 images", {"images": 5, "error": float("nan")}, complete=False)

    assert not print_summary(run, as_json=True)
    found = capsys.readouterr()
    assert json.loads(found.out) == {"images": 5, "error": None}
    assert found.err == "note: something\n"
    print_summary(run, as_json=False)
    assert capsys.readouterr().out == "note: something\n5 images\n"


def test_values_become_what_json_can_hold() -> None:
    model = ModelSummary("sparse/0", 3, 10, 20, 2.0, 2.0, float("inf"))
    found = plain({"model": model, "path": Path("a"), "n": np.int64(3), 4: (np.float32(0.5), {1})})
    assert found["model"]["registered"] == 3
    assert found["model"]["reprojection_error"] is None
    assert (found["path"], found["n"], found["4"]) == ("a", 3, [0.5, [1]])


def test_every_command_has_the_option(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    inner = {"weights": "list", "ablations": "time", "images": "saliency"}
    for name in COMMANDS:
        words = [name, *([inner[name]] if name in inner else []), "--help"]
        with contextlib.suppress(SystemExit):
            main(words)
        text = capsys.readouterr().out
        assert "--json" in text, name
        options = text.partition("options:")[2].splitlines()
        assert max(map(len, options)) <= 80, name


def test_common_options_stand_before_the_advanced_ones(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with contextlib.suppress(SystemExit):
        main(["sfm", "--help"])
    usage, _, rest = capsys.readouterr().out.partition("\n")
    assert usage == "usage: posfeat-hloc sfm [options] [DIR]"
    common, _, advanced = rest.partition("\nadvanced options")
    for name in ("--images", "--output", "--feature", "--video", "--export", "--json"):
        assert f"\n  {name} " in common, name
    for name in ("--overlap", "--rig", "--mapper", "--seed", "--memory"):
        assert f"\n  {name} " in advanced, name


def test_lists_and_weights_for_scripts(capsys: Output) -> None:
    assert main(["list", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["extract"]) == set(confs.extractors)
    assert main(["weights", "list", "--json"]) == 0
    names = [entry["name"] for entry in json.loads(capsys.readouterr().out)["weights"]]
    assert "posfeat-small" in names


def test_a_check_for_scripts_fails_as_the_command_does(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "broken.h5").write_bytes(b"no HDF5")
    assert main(["check", str(tmp_path / "broken.h5"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"intact": {str(tmp_path / "broken.h5"): False}}


def test_colors_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    text = "\n5 of 6 images\n  likely cause        blur"
    assert colored(text, io.StringIO()) == text
    assert colored(text, Screen()) == "\n\033[32;1m5 of 6 images\033[0m\n\033[33m  likely cause\033[0m        blur"
    assert colored(text, Screen(), complete=False).startswith("\n\033[31;1m5 of 6")
    assert label("error:", Screen()) == "\033[31;1merror:\033[0m"
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert colored(text, Screen()) == text
            assert label("error:", Screen()) == "error:"


def test_options_of_subcommands_are_parsed_as_those_of_commands() -> None:
    from posfeat_hloc.cli.main import parsed

    args: argparse.Namespace = parsed(["weights", "list", "--json"])[1]
    assert args.json
    assert not parsed(["list"])[1].json
