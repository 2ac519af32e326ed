"""The packages this one needs, which versions are allowed and which are tested; nothing of them is imported before.

A table of its own, because a source folder has no metadata and ``constraints.txt`` is not part of an installed package;
a test keeps it equal to that file and to ``pyproject.toml``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        status: ``ok``; ``warn``: works, but look at it; ``fail``: something will not work.
        text: what was found.
        remedy: what to do; empty when there is nothing to do.
    """

    status: str
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Requirement:
    """One package.

    Attributes:
        module: that is imported.
        install: what pip is told, e.g. ``pycolmap>=3.13,<5``.
        tested: versions of ``constraints.txt``, newest first.
    """

    module: str
    install: str
    tested: tuple[str, ...]

    @property
    def distribution(self) -> str:
        """The name that pip knows."""
        return re.split("[<>=]", self.install)[0]

    @property
    def label(self) -> str:
        """Short, for a column."""
        return self.distribution.partition("-")[0]


PYTHON = Requirement("python", "python>=3.10,<3.14", ("3.13", "3.12", "3.11", "3.10"))

REQUIREMENTS = (  # in the order of their import: Pillow before pycolmap, or writing a PNG mixes two zlibs and aborts
    Requirement("PIL.Image", "pillow>=10.0", ("13.0.0", "12.3.0")),
    Requirement("numpy", "numpy>=1.24", ("2.4.6", "2.2.6")),
    Requirement("torch", "torch>=2.2", ("2.13.0",)),
    Requirement("kornia", "kornia>=0.7", ("0.9.0", "0.8.2")),
    Requirement("safetensors", "safetensors>=0.4", ("0.8.0",)),
    Requirement("cv2", "opencv-python-headless>=4.8", ("5.0.0.93",)),
    Requirement("h5py", "h5py>=3.8", ("3.16.0",)),
    Requirement("pycolmap", "pycolmap>=3.13,<5", ("4.2.1",)),
    Requirement("tqdm", "tqdm>=4.60", ("4.70.1",)),
    Requirement("filelock", "filelock>=3.20", ("4.3.1",)),
)

OPENCV = tuple(f"opencv-{kind}python{head}" for kind in ("", "contrib-") for head in ("", "-headless"))
"""Distributions that all install the module ``cv2``."""


def check_python() -> Finding:
    """The running Python."""
    return judge(PYTHON, platform.python_version())


def check_package(requirement: Requirement) -> Finding:
    """Import a package and judge its version; a package that is missing or broken is a finding, never an exception."""
    repair = f"pip install --force-reinstall '{requirement.install}'"
    try:
        module = importlib.import_module(requirement.module)
        version = str(getattr(module, "__version__", "") or importlib.metadata.version(requirement.distribution))
    except ModuleNotFoundError as error:
        if error.name == requirement.module.partition(".")[0]:
            return Finding("fail", "not installed", f"pip install '{requirement.install}'")
        return Finding("fail", f"needs {error.name}, which is not installed", repair)
    except Exception as error:  # a broken package may raise anything
        if "libGL" in str(error):
            repair = "pip uninstall opencv-python; pip install --force-reinstall opencv-python-headless"
        return Finding("fail", f"cannot be imported ({type(error).__name__}: {_first_line(error)})", repair)
    if requirement.module == "cv2" and len(found := installed(OPENCV)) > 1:
        remedy = f"pip uninstall {' '.join(found)}; pip install '{requirement.install}'"
        return Finding("warn", f"{version}; {' and '.join(found)} overwrite each other's files", remedy)
    return judge(requirement, version)


def judge(requirement: Requirement, version: str) -> Finding:
    """Whether a version is allowed, and how it compares with the tested ones."""
    found = release(version)
    tested = requirement.tested[0]
    for sign, limit in re.findall(r"(>=|<)([\d.]+)", requirement.install):
        if (sign == ">=") != (found >= release(limit)):
            rule = requirement.install.removeprefix(requirement.distribution)
            remedy = f"pip install '{requirement.install}' (tested: {tested})"
            if requirement is PYTHON:
                remedy = f"use Python {rule}"
            return Finding("fail", f"{version}, but this package needs {rule}", remedy)
    if any(found[: len(release(known))] == release(known)[: len(found)] for known in requirement.tested):
        return Finding("ok", f"{version} (tested)")
    if found[0] > release(tested)[0]:
        remedy = f"if something breaks: pip install {requirement.distribution}=={tested}"
        return Finding("warn", f"{version} is much newer than the tested {tested}", remedy)
    return Finding("ok", f"{version} (tested: {tested})")


def release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``2.13.0+cpu`` is (2, 13, 0)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else (0,)


def installed(distributions: tuple[str, ...]) -> list[str]:
    """Those that pip has installed."""
    found = []
    for name in distributions:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append(name)
    return found


def check_hloc() -> Finding:
    """hloc is not needed; a version that does not work is a warning."""
    from posfeat_hloc.errors import HlocError
    from posfeat_hloc.hloc_plugin import installation

    try:
        for verb in ("extract", "match"):
            installation.load(f"hloc.{verb}_features", "main", "confs")
    except HlocError as error:
        if getattr(error.__cause__, "name", None) == "hloc":
            return Finding("ok", "not installed, and not needed")
        return Finding("warn", str(error), "only `--engine hloc` and `posfeat_hloc.register()` need it")
    version = installation.version()
    note = "" if version.startswith(installation.TESTED) else f": {installation.TESTED}"
    return Finding("ok", f"{version} (tested{note})")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
