"""Running tests on a changed module, in forked processes, for :mod:`benchmarks.mutants`.

One process a module imports it and its tests once. For each change within a function it forks, puts the changed
code into the function, and runs the tests. A change outside of functions (a constant, a default, an option)
needs a process that imports the module from the changed text.
"""

from __future__ import annotations

import ast
import gc
import importlib.abc
import importlib.util
import io
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import Phase, settings

from benchmarks.mutations import Mutation

PATIENCE = 5
"""A changed module may take this many times as long as the unchanged one, and 20 s more."""

Report = Callable[[Mutation, str], None]
"""Told of each mutant: ``caught``, ``timeout`` or ``survived``."""


def try_mutants(path: Path, module: str, mutants: list[Mutation], tests: list[str], report: Report) -> None:
    """Run a module's tests on each of its mutants.

    Raises:
        RuntimeError: the tests fail without any change.
    """
    source = path.read_text()
    inside = [m for m in mutants if m.in_function]
    limit = 600.0
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "outcomes"
        lines.touch()
        code = _in_child(lambda: _pytest(tests, [_Fork(path, source, inside, lines)]), 1e9)
        told = lines.read_text().split()
        if code or not told:
            raise RuntimeError(f"{path}: its tests fail without any change: {' '.join(tests)}")
        limit = float(told[0])
        for mutant, outcome in zip(inside, told[1:], strict=True):
            report(mutant, outcome)
    for mutant in mutants:
        if not mutant.in_function:
            changed = _Changed(module, path, mutant.tree(source))
            report(mutant, _outcome(_in_child(lambda changed=changed: _pytest(tests, [], changed), limit + 20)))


def _outcome(code: int | None) -> str:
    return "timeout" if code is None else "survived" if code == 0 else "caught"


class _Fork:
    """In place of pytest's loop over tests: a fork, and the loop, for each mutant; writes outcomes to a file."""

    def __init__(self, path: Path, source: str, mutants: list[Mutation], outcomes: Path) -> None:
        self.path, self.source, self.mutants, self.outcomes = path, source, mutants, outcomes
        self.took: dict[str, float] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        start = time.perf_counter()
        with tempfile.NamedTemporaryFile("w+") as durations:
            code = _in_child(lambda: self._run(session, durations.name), 600)
            if code != 0:
                session.testsfailed = 1
                return True
            self.took = {line.partition(" ")[2].strip(): float(line.partition(" ")[0]) for line in durations}
        limit = PATIENCE * (time.perf_counter() - start) + 20
        self._tell(str(limit))
        session.items.sort(key=lambda item: self.took.get(item.nodeid, 0.0))  # the first failure ends a trial
        for mutant in self.mutants:
            self._tell(_outcome(_in_child(lambda mutant=mutant: self._trial(session, mutant), limit)))
        return True

    def _tell(self, word: str) -> None:
        with self.outcomes.open("a") as stream:
            stream.write(f"{word}\n")

    def _trial(self, session: pytest.Session, mutant: Mutation) -> int:
        replace_code(self.path, mutant.tree(self.source))
        return self._run(session)

    def _run(self, session: pytest.Session, durations: str | None = None) -> int:
        for i, item in enumerate(session.items):
            following = session.items[i + 1] if i + 1 < len(session.items) else None
            start = time.perf_counter()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if durations is not None:
                with open(durations, "a") as stream:
                    stream.write(f"{time.perf_counter() - start} {item.nodeid}\n")
            if session.testsfailed:
                return 1
        return 0


def replace_code(path: Path, tree: ast.Module) -> None:
    """Give all living functions of a file the code they have in a changed syntax tree."""

    def codes(code: CodeType) -> Iterator[CodeType]:
        for inner in code.co_consts:
            if isinstance(inner, CodeType):
                yield inner
                yield from codes(inner)

    changed = {(code.co_name, code.co_firstlineno): code for code in codes(compile(tree, str(path), "exec"))}
    for function in [thing for thing in gc.get_objects() if isinstance(thing, FunctionType)]:
        code = function.__code__
        key = code.co_name, code.co_firstlineno
        if os.path.realpath(code.co_filename) == str(path.resolve()) and key in changed:
            function.__code__ = changed[key]


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a changed syntax tree."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        package = [str(self.path.parent)] if self.path.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(
            fullname, self.path, loader=self, submodule_search_locations=package
        )

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.tree, str(self.path), "exec"), module.__dict__)


class _QuickHypothesis:
    """No shrinking: that a test fails is enough. The same examples for all mutants."""

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutants", parent=settings.default, phases=phases, database=None, derandomize=True)
        settings.load_profile("mutants")


def _pytest(tests: list[str], plugins: list[Any], changed: _Changed | None = None) -> int:
    if changed is not None:
        sys.meta_path.insert(0, changed)
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*tests, "-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-o", "addopts="]
        arguments.append(f"--basetemp={folder}/tests")
        return int(pytest.main(arguments, plugins=[_QuickHypothesis(), *plugins]))


@contextmanager
def _quiet() -> Iterator[None]:
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield


def _in_child(work: Callable[[], int], limit: float) -> int | None:
    """What a fork of this process ends with; None when it takes longer than ``limit`` seconds."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            with _quiet():
                code = work()
        except BaseException:  # whatever it is, the change was noticed
            code = 1
        finally:
            os._exit(code)
    end = time.perf_counter() + limit
    while time.perf_counter() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
