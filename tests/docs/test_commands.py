"""Every command line in the documentation is one that the command itself accepts; nothing is run."""

import argparse
import importlib
import re
import runpy
import sys

import pytest

from tests.docs.pages import PAGES, REPOSITORY, blocks, commands, label

PACKAGES = {"posfeat_hloc", "tests.crash", "tests.fuzzing"}
"""Commands that are the ``__main__`` of a package."""
FOREIGN = {"pytest", "hloc"}
"""Modules of others, whose options are theirs to check."""
SCRIPTS_WITHOUT_OPTIONS = {
    "examples/colab.py",
    "examples/hloc_style.py",
    "examples/inside_hloc.py",
    "examples/own_network.py",
    "examples/onnx_alone.py",
    "examples/adapter_deep_image_matching.py",  # its options are those of deep-image-matching
    "examples/adapter_vismatch.py",
}


class Parsed(Exception):
    """A command line was understood, and the command stops there."""


@pytest.fixture
def parse(monkeypatch, capsys):
    """``parse(words)`` gives a command line to its command, which ends with its arguments read; says what is wrong."""
    original = argparse.ArgumentParser.parse_args

    def parse_args(self, args=None, namespace=None):
        original(self, args, namespace)
        raise Parsed

    def run(words):
        name = words[1] if words[0] == "-m" else words[0]
        with monkeypatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
            patch.setattr(sys, "argv", words)
            try:
                if words[0] == "-m":
                    module = importlib.import_module(name + (".__main__" if name in PACKAGES else ""))
                    module.main(words[2:])
                else:
                    runpy.run_path(str(REPOSITORY / name), run_name="__main__")
            except Parsed:
                return ""
            except SystemExit as end:
                return "" if end.code == 0 else capsys.readouterr().err.strip().splitlines()[-1]
            except (ImportError, FileNotFoundError) as error:
                return str(error)
        return "was run, for it parses no arguments"

    return run


def is_ours(words):
    if "..." in words or any(word.startswith("$") for word in words):
        return False
    if words[0] == "-m":
        return words[1].split(".")[0] not in FOREIGN
    return words[0].endswith(".py") and words[0] not in SCRIPTS_WITHOUT_OPTIONS


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_every_command_line_parses(page, parse):
    wrong = {}
    for words in filter(is_ours, commands(page.read_text(encoding="utf-8"))):
        if problem := parse(words):
            wrong[" ".join(words)] = problem
    assert not wrong


def test_a_command_line_with_a_fault_is_found(parse):
    page = """
```bash
python -m pipelines.sfm --images photos --no-such-option 3   # a comment --ignored
nice python -m pipelines.sfm --images photos \\
  --feature nothing > log.txt && python -m posfeat_hloc weights get hardnet++
```
```bash
python -m pipelines.eth --dataset eth --features sift --camera single --quietly
```
Then `python -m pipelines.localize --map outputs`, and `python -m pipelines.nothing --here 1`.
"""
    found = commands(page)
    assert [words[1] for words in found] == [
        "pipelines.sfm", "pipelines.sfm", "posfeat_hloc", "pipelines.eth", "pipelines.localize", "pipelines.nothing",
    ]  # fmt: skip
    assert found[0][-1] == "3"
    problems = [parse(words) for words in found]
    for problem, words in zip(
        problems, ("no-such-option", "'nothing'", "", "--quietly", "--queries", "No module"), strict=True
    ):
        assert words in problem
    assert problems[2] == ""


def test_the_pages_hold_commands():
    """The search above finds what a reader sees."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    lines = [line for block in blocks(text, "bash") for line in block.splitlines()]
    seen = sum(re.match(r"(python -m|posfeat-hloc) ", line) is not None for line in lines)
    assert len(commands(text)) >= seen > 10
    assert commands("```bash\nposfeat-hloc doctor --here\n```\n") == [["-m", "posfeat_hloc", "doctor", "--here"]]
