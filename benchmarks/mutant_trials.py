"""Running tests on a changed module, in forked processes, for :mod:`benchmarks.mutants`.

One process a module imports it and its tests once, and notes which lines each test executes. For each change
within a function it forks, puts the changed code into the function, and runs the tests that reach it, the quickest
first. A change outside of functions (a constant, a default, an option)
needs a process that imports the module from the changed text.
"""

from __future__ import annotations

import ast
import gc
import importlib.abc
import importlib.util
import io
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import Phase, settings

from benchmarks.mutations import Mutation

PATIENCE, MORE = 4, 10.0
"""A changed module may take this many times as long as the unchanged one, and seconds more."""

TraceFunction = Callable[[FrameType, str, Any], Any]

Report = Callable[[Mutation, str], None]
"""Told of each mutant: ``caught``, ``timeout`` or ``survived``."""


def try_mutants(path: Path, module: str, mutants: list[Mutation], tests: list[str], report: Report) -> None:
    """Run a module's tests on each of its mutants.

    Raises:
        RuntimeError: the tests fail without any change.
    """
    source = path.read_text()
    inside = [m for m in mutants if m.in_function]
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "notes"
        code = _in_child(lambda: _pytest(tests, [_Fork(path, source, inside, notes)]), 1e9)
        told = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
        if code or not told:
            raise RuntimeError(f"{path}: its tests fail without any change: {' '.join(tests)} ({told[-1:]})")
        for mutant, outcome in zip(inside, told[1:], strict=True):
            report(mutant, outcome)
    seconds: dict[str, float] = told[0]
    limit = PATIENCE * sum(seconds.values()) + MORE
    for mutant in mutants:
        if not mutant.in_function:
            changed = _Changed(module, path, mutant.tree(source))
            outcome = _in_child(lambda changed=changed: _pytest(tests, [_QuickFirst(seconds)], changed), limit)
            report(mutant, _outcome(outcome))


def _outcome(code: int | None) -> str:
    return "timeout" if code is None else "survived" if code == 0 else "caught"


class _QuickFirst:
    """Runs the quickest tests first: the first failure ends a trial."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.seconds.get(item.nodeid, 0.0))


class _Fork:
    """In place of pytest's loop over tests: a fork for each mutant that runs the tests which reach it.

    Writes a line of JSON with the seconds of each test and one for each outcome.
    """

    def __init__(self, path: Path, source: str, mutants: list[Mutation], notes: Path) -> None:
        self.path, self.source, self.mutants, self.notes = path, source, mutants, notes

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.functions = living_functions(self.path)
        gc.collect()
        gc.freeze()  # a fork that looks for garbage among what was there before copies all of it
        seconds: dict[str, float] = {}
        lines: dict[str, set[int]] = {}
        for item in session.items:  # each in a process of its own, so that it makes what tests share by itself
            start = time.perf_counter()
            with tempfile.NamedTemporaryFile("w+") as reached:
                code = _in_child(lambda item=item, name=reached.name: self._watched(session, item, name), 600)
                lines[item.nodeid] = set(map(int, reached.read().split()))
            seconds[item.nodeid] = time.perf_counter() - start
            if code != 0:
                session.testsfailed = 1
                self._tell(item.nodeid)
                return True
        self._tell(seconds)
        for mutant in self.mutants:
            places = set(range(mutant.statement[0], mutant.statement[1] + 1))
            items = sorted((i for i in session.items if lines[i.nodeid] & places), key=lambda i: seconds[i.nodeid])
            limit = PATIENCE * sum(seconds[item.nodeid] for item in items) + MORE
            self._tell(_outcome(_in_child(lambda m=mutant, i=items: self._trial(session, m, i), limit)))
        return True

    def _tell(self, note: object) -> None:
        with self.notes.open("a") as stream:
            stream.write(json.dumps(note) + "\n")

    def _trial(self, session: pytest.Session, mutant: Mutation, items: list[pytest.Item]) -> int:
        replace_code(self.functions, mutant.tree(self.source))
        return self._run(session, items)

    def _watched(self, session: pytest.Session, item: pytest.Item, reached: str) -> int:
        """Run one test and write down the lines of the file that it executes."""
        own, lines = str(self.path.resolve()), set()

        def watch(frame: FrameType, event: str, argument: object) -> TraceFunction | None:
            if frame.f_code.co_filename != own:
                return None
            lines.add(frame.f_lineno)
            return watch

        threading.settrace(watch)
        sys.settrace(watch)
        try:
            return self._run(session, [item])
        finally:
            sys.settrace(None)
            Path(reached).write_text(" ".join(map(str, sorted(lines))))

    def _run(self, session: pytest.Session, items: list[pytest.Item]) -> int:
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                return 1
        return 0


def living_functions(path: Path) -> list[FunctionType]:
    """All functions that were defined in a file."""
    own = str(path.resolve())
    functions = [thing for thing in gc.get_objects() if isinstance(thing, FunctionType)]
    return [function for function in functions if os.path.realpath(function.__code__.co_filename) == own]


def replace_code(functions: list[FunctionType], tree: ast.Module) -> None:
    """Give functions of one file the code they have in a changed syntax tree."""

    def codes(code: CodeType) -> Iterator[CodeType]:
        for inner in code.co_consts:
            if isinstance(inner, CodeType):
                yield inner
                yield from codes(inner)

    if functions:
        file = functions[0].__code__.co_filename
        changed = {(code.co_name, code.co_firstlineno): code for code in codes(compile(tree, file, "exec"))}
        for function in functions:
            code = function.__code__
            function.__code__ = changed.get((code.co_name, code.co_firstlineno), code)


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
        arguments = [*tests, "-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-o", "addopts=", "-m", "not slow"]
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
