"""What a page is made of, and how an output folder becomes ``report.html``; the template decides how it looks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from posfeat_hloc import __version__
from posfeat_hloc.report.folder import KINDS, open_folder
from posfeat_hloc.runtime.output import write_atomically

DASH = "\N{EN DASH}"
"""Stands for a missing value."""


@dataclass(frozen=True)
class Text:
    """A paragraph; ``tone`` is ``plain``, ``good``, ``warning`` or ``code``."""

    text: str
    tone: str = "plain"
    kind: str = "text"


@dataclass(frozen=True)
class Facts:
    """Names and values in two columns."""

    items: Sequence[tuple[str, str]]
    kind: str = "facts"


@dataclass(frozen=True)
class Rows:
    """A table that can be sorted; cells with a number or a dash are set as numbers, names of images are links."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: str = "rows"


@dataclass(frozen=True)
class Picture:
    """An image inside the page.

    Attributes:
        source: data URI.
        caption: below it; also said to those who do not see it.
        wide: takes the whole width of the page.
        title: in bold before the caption.
        anchor: id of the image in the page, for links.
    """

    source: str
    caption: str
    wide: bool = False
    title: str = ""
    anchor: str = ""
    kind: str = "picture"


@dataclass(frozen=True)
class Interactive:
    """A plotly figure as HTML, with a caption."""

    html: str
    caption: str
    kind: str = "interactive"


Block = Text | Facts | Rows | Picture | Interactive


@dataclass
class Section:
    """A titled part of the page.

    Attributes:
        title: heading.
        blocks: from top to bottom, in two columns where the window is wide.
        layout: ``column`` one below the other, ``grid`` side by side, ``tiles`` many small pictures.
        folded: shown when asked for.
    """

    title: str
    blocks: list[Block] = field(default_factory=list)
    layout: str = "column"
    folded: bool = False


@dataclass
class Page:
    """All of a page.

    Attributes:
        title: heading.
        subtitle: what kind of run this is.
        figures: the most important numbers, (value, what it counts).
        notes: what is missing, unfinished or damaged.
        sections: in their order.
        anchors: image -> id of its thumbnail.
    """

    title: str
    subtitle: str
    figures: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    anchors: dict[str, str] = field(default_factory=dict)


_FILLED_BY = {"sfm": "reconstruction", "localize": "localization", "aachen": "localization", "hpatches": "accuracy"}
_NUMBER = re.compile(rf"[-+]?\d[\d .,%±°]*$|{DASH}$")


def write_report(output: Path, images: Path | None = None) -> Path:
    """Write ``report.html`` and the plots in ``report/`` of an output folder, finished or not.

    Args:
        output: of a reconstruction, a localization, Aachen or HPatches; only these two names are written there.
        images: folder of the photographs, if they have moved since the run.

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
    """The page as one HTML file without external resources."""
    environment = Environment(
        loader=PackageLoader("posfeat_hloc.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.tests["number"] = lambda text: bool(_NUMBER.match(text))
    template = environment.get_template("report.html")
    moving = any(block.kind == "interactive" for section in page.sections for block in section.blocks)
    return template.render(page=page, version=__version__, script=_plotly_script() if moving else "")


def _plotly_script() -> str:
    """plotly.js, whole: 4.8 MB, so that the page needs no network."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()
