"""Versions: the table is that of the project's files, and missing, broken, old and new packages are told apart."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from posfeat_hloc.doctor import requirements
from posfeat_hloc.doctor.requirements import (
    PYTHON,
    REQUIREMENTS,
    Finding,
    Requirement,
    check_hloc,
    check_package,
    installed,
    judge,
    release,
)
from tests.fake_hloc import fake_hloc  # noqa: F401

ROOT = Path(requirements.__file__).parents[2]
PACKAGE = Requirement("stranger", "stranger-lib>=2.3,<5", ("4.2.1", "3.9"))


def project() -> dict[str, Any]:
    """The table ``[project]`` of ``pyproject.toml``."""
    tomllib = pytest.importorskip("tomllib", reason="tomllib is part of Python 3.11")
    path = ROOT / "pyproject.toml"
    if not path.exists():
        pytest.skip("pyproject.toml is not beside an installed package")
    metadata: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    return metadata


def test_the_table_is_what_pip_installs() -> None:
    assert sorted(r.install for r in REQUIREMENTS) == project()["dependencies"]
    assert PYTHON.install == f"python{project()['requires-python']}"


def test_no_dependency_is_a_direct_url() -> None:
    """PyPI accepts no package with such a dependency."""
    extras = project()["optional-dependencies"]
    assert {"hloc", "report", "test"} - extras.keys() == {"hloc"}
    assert not [name for names in [project()["dependencies"], *extras.values()] for name in names if "@" in name]


def test_tested_versions_are_those_of_the_constraints() -> None:
    project()  # skips where there are no such files
    pinned: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, version = line.partition(";")[0].split("==")
            pinned.setdefault(name, []).append(version)
    for requirement in REQUIREMENTS:
        assert list(requirement.tested) == pinned[requirement.distribution]


@pytest.mark.parametrize(
    ("version", "status", "words"),
    [
        ("2.2.9", "fail", "2.2.9, but this package needs >=2.3,<5"),
        ("2.3", "ok", "2.3 (tested: 4.2.1)"),
        ("2.10.1", "ok", "2.10.1 (tested: 4.2.1)"),
        ("3.9.0+cu128", "ok", "3.9.0+cu128 (tested)"),
        ("4.2.1", "ok", "4.2.1 (tested)"),
        ("4.2", "ok", "4.2 (tested)"),
        ("4.9.9", "ok", "4.9.9 (tested: 4.2.1)"),
        ("5.0.0.dev0", "fail", "5.0.0.dev0, but this package needs >=2.3,<5"),
    ],
)
def test_versions(version: str, status: str, words: str) -> None:
    finding = judge(PACKAGE, version)
    assert (finding.status, finding.text) == (status, words)
    assert finding.remedy == ("pip install 'stranger-lib>=2.3,<5' (tested: 4.2.1)" if status == "fail" else "")


def test_a_new_major_version_is_worth_a_look() -> None:
    finding = judge(Requirement("h5py", "h5py>=3.8", ("3.16.0",)), "4.0")
    assert (finding.status, finding.text) == ("warn", "4.0 is much newer than the tested 3.16.0")
    assert finding.remedy.endswith("pip install h5py==3.16.0")


def test_pythons() -> None:
    statuses = {version: judge(PYTHON, version).status for version in ("3.9.2", "3.10.0", "3.13.7", "3.14.0")}
    assert statuses == {"3.9.2": "fail", "3.10.0": "ok", "3.13.7": "ok", "3.14.0": "fail"}
    assert judge(PYTHON, "3.14.0").remedy == "use Python >=3.10,<3.14"


def test_releases() -> None:
    assert release("2.13.0+cpu") == (2, 13, 0)
    assert release("5.0.0-pre") == (5, 0, 0)
    assert release("unknown") == (0,)


@pytest.mark.parametrize(
    ("source", "status", "text", "remedy"),
    [
        (None, "fail", "not installed", "pip install 'stranger-lib>=2.3,<5'"),
        ("__version__ = '4.2.1'", "ok", "4.2.1 (tested)", ""),
        ("import another_stranger", "fail", "needs another_stranger, which is not installed", "--force-reinstall"),
        ("raise OSError('libfoo.so:\\nno such file')", "fail", "cannot be imported (OSError: libfoo.so:)", "--force-"),
        ("raise ImportError('libGL.so.1: gone')", "fail", "(ImportError: libGL.so.1: gone)", "opencv-python-headless"),
        ("1 / 0", "fail", "cannot be imported (ZeroDivisionError: division by zero)", "--force-reinstall"),
    ],
)
def test_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, status: str, text: str, remedy: str
) -> None:
    if source is not None:
        (tmp_path / "stranger.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    finding = check_package(PACKAGE)
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    assert finding.status == status
    assert text in finding.text
    assert remedy in finding.remedy
    assert "\n" not in finding.text + finding.remedy


def test_two_opencvs_are_worth_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    opencv = next(r for r in REQUIREMENTS if r.module == "cv2")
    monkeypatch.setattr(requirements, "installed", lambda _: ["opencv-python"])
    assert check_package(opencv).status == "ok"
    monkeypatch.setattr(requirements, "installed", lambda _: ["opencv-python", "opencv-python-headless"])
    finding = check_package(opencv)
    assert finding.status == "warn"
    assert "opencv-python and opencv-python-headless overwrite each other's files" in finding.text


def test_what_pip_has_installed() -> None:
    assert installed(("no-such-distribution", "numpy")) == ["numpy"]


def test_hloc_is_welcome_not_needed(
    fake_hloc: Callable[..., ModuleType],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_hloc()
    assert check_hloc() == Finding("ok", "9.8 (tested: 1.5)")
    monkeypatch.delattr("hloc.match_features.confs")
    finding = check_hloc()
    assert finding.status == "warn"
    assert "hloc 9.8 is installed, but hloc.match_features has no confs" in finding.text
    with monkeypatch.context() as away:  # ends before the imitation is taken out
        away.setitem(sys.modules, "hloc", None)
        assert check_hloc() == Finding("ok", "not installed, and not needed")
