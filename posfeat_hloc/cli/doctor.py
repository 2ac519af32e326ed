"""Check this installation: one line for each thing that must work, with what to do where it does not."""

from __future__ import annotations

# Only the standard library is imported here: every check imports what it looks at, so that a broken package is a
# finding. The name of a check is printed before it runs; should a library abort the process, it is the last word on
# the screen.
import argparse
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import posfeat_hloc
from posfeat_hloc.cli.summary import Summary
from posfeat_hloc.doctor import requirements
from posfeat_hloc.doctor.requirements import Finding
from posfeat_hloc.runtime.colors import label as color

WIDTH = 80
_LABEL = 20
_INDENT = " " * (2 + _LABEL + 6)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``doctor``."""
    parser.add_argument("--quick", action="store_true", help="skip the self-test, which takes about 10 seconds")


def run(args: argparse.Namespace) -> Summary:
    """Run all checks; whether none failed."""
    report = Report()
    print(f"posfeat_hloc {posfeat_hloc.__version__} in {Path(posfeat_hloc.__file__).parent}\n\nversions")
    report.check("python", requirements.check_python)
    for requirement in requirements.REQUIREMENTS:
        report.check(requirement.label, partial(requirements.check_package, requirement))
    if not report.failed:
        report.check("posfeat_hloc", _import_all)
    if report.failed:
        print("\nNot checked: hardware, weights, files, self-test. Fix the above first.")
        return Summary("", report.data(), False)
    report.check("hloc (optional)", requirements.check_hloc)
    _check_the_rest(report)
    if not args.quick:
        print("\nself-test: a rendered scene, from images to a model")
        report.check("true cameras found", _self_test)
    return Summary(f"\n{report.summary()}", report.data(), not report.failed)


def _import_all() -> Finding:
    """Packages that seem whole may still lack what this one takes from them."""
    for name in ("checks", "self_test"):
        import_module(f"posfeat_hloc.doctor.{name}")
    return Finding("ok", f"{posfeat_hloc.__version__}, imports all its dependencies")


def _check_the_rest(report: Report) -> None:
    from posfeat_hloc.doctor import checks

    print("\nhardware")
    report.check("threads", checks.check_threads)
    report.check("bf16", checks.check_bf16)
    for label, check in checks.device_checks():
        report.check(label, check)
    print("\nweights")
    for label, check in checks.weight_checks():
        report.check(label, check)
    print("\nfiles")
    report.check("features (HDF5)", checks.check_features)
    report.check("COLMAP database", checks.check_database)


def _self_test() -> Finding:
    from posfeat_hloc.doctor import self_test

    return self_test.run()


class Report:
    """Prints findings and counts them."""

    def __init__(self) -> None:
        self.findings: dict[str, Finding] = {}

    @property
    def warned(self) -> int:
        """Number of warnings."""
        return sum(finding.status == "warn" for finding in self.findings.values())

    @property
    def failed(self) -> int:
        """Number of failed checks."""
        return sum(finding.status == "fail" for finding in self.findings.values())

    def data(self) -> dict[str, Any]:
        """For JSON: check -> its finding."""
        return {"version": posfeat_hloc.__version__, "checks": self.findings}

    def check(self, label: str, check: Callable[[], Finding]) -> None:
        """Run one check and print its line; an exception is a failed check, too."""
        print(f"  {label:<{_LABEL}}", end="", flush=True)
        try:
            finding = check()
        except Exception as error:  # doctor is run where things are broken
            reason = str(error).strip().partition("\n")[0]
            finding = Finding("fail", f"{type(error).__name__}: {reason}", "report it with all these lines")
        self.findings[label] = finding
        print(f"{color(f'{finding.status:<6}', sys.stdout)}{_wrapped(finding.text)}")
        if finding.remedy:
            print(f"{_INDENT}{_wrapped(f'-> {finding.remedy}')}", flush=True)

    def summary(self) -> str:
        """One line: whether all checks passed."""
        if not self.failed and not self.warned:
            return "all checks passed"
        counts = [f"{n} {what}" for n, what in ((self.failed, "failed"), (self.warned, "to look at")) if n]
        return f"{', '.join(counts)}: see the lines that begin with ->"


def _wrapped(text: str) -> str:
    """Lines that end before the edge of the terminal; commands and paths are not broken."""
    lines = textwrap.wrap(text, WIDTH - len(_INDENT), break_long_words=False, break_on_hyphens=False)
    return f"\n{_INDENT}".join(lines)
