"""What several files say of the package agrees."""

import re

import pytest

import posfeat_hloc
from tests.docs.pages import REPOSITORY


def test_the_citation_names_this_version():
    text = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", text, re.MULTILINE) == [posfeat_hloc.__version__]


def test_continuous_integration_covers_the_python_versions_of_the_metadata():
    tomllib = pytest.importorskip("tomllib", reason="tomllib is part of Python 3.11")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [line.rpartition(" ")[2] for line in project["classifiers"] if "Python ::" in line]
    workflow = (REPOSITORY / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert re.findall(r'"(3\.\d+)"', workflow.partition("runs-on")[0]) == named
    assert project["requires-python"] == f">={named[0]},<3.{int(named[-1].partition('.')[2]) + 1}"
