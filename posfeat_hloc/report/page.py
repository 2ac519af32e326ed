"""From an output folder to ``report.html``."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from posfeat_hloc import __version__
from posfeat_hloc.report.content import DASH, Page
from posfeat_hloc.report.folder import KINDS, open_folder
from posfeat_hloc.report.scene import plotly_script
from posfeat_hloc.runtime.output import write_atomically

_FILLED_BY = {"sfm": "reconstruction", "localize": "localization", "aachen": "localization", "hpatches": "accuracy"}
_NUMBER = re.compile(rf"[-+]?\d[\d .,%±°]*$|{DASH}$")


def write_report(output: Path, images: Path | None = None) -> Path:
    """Write ``report.html`` and the plots in ``report/`` from what an output folder holds, be it finished or not.

    Args:
        output: of a reconstruction, a localization, Aachen or HPatches; only these two names are written there.
        images: folder of the photographs, where it is no more where the run found it.

    Returns:
        path of the page.

    Raises:
        ConfigurationError: no such folder.
    """
    folder = open_folder(output, images)
    page = Page(output.resolve().name, KINDS[folder.kind], notes=folder.notes)
    if folder.kind in _FILLED_BY:
        module = import_module(f"posfeat_hloc.report.{_FILLED_BY[folder.kind]}")
        module.fill(page, folder, output / "report")
    path = output / "report.html"
    write_atomically(path, render(page))
    return path


def render(page: Page) -> str:
    """The page as HTML; it loads nothing."""
    environment = Environment(
        loader=PackageLoader("posfeat_hloc.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.tests["number"] = lambda text: bool(_NUMBER.match(text))
    moving = any(block.kind == "interactive" for section in page.sections for block in section.blocks)
    return environment.get_template("report.html").render(
        page=page, version=__version__, script=plotly_script() if moving else ""
    )
