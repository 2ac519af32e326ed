"""What a page is made of; the template decides how it looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

DASH = "\N{EN DASH}"
"""Stands for a value that there is not."""


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
    """A table; a cell that starts with a digit, a sign or a dash is set as a number."""

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
    """

    source: str
    caption: str
    wide: bool = False
    title: str = ""
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
    """

    title: str
    subtitle: str
    figures: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
