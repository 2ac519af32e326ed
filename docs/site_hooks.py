"""Hooks of MkDocs: pages from outside of ``docs/``, pages of the API, links of the repository, equations as MathML.

GitHub shows the same Markdown files. There links lead through the repository and ``$$`` marks equations; here both are
translated, so that the site makes no request to another server.
"""

from __future__ import annotations

import os
import pkgutil
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files, InclusionLevel

import posfeat_hloc

ROOT = Path(__file__).parents[1]
OUTSIDE = {"weights/README.md": "weights.md", "CHANGELOG.md": "changelog.md"}
"""Files of the repository that are pages, too; the result pages of ``benchmarks/`` are added to them."""
LEFT_OUT = {"__main__", "_weights", "commands", "cli", "py"}
"""Parts of the package that are no API."""
_CODE = re.compile(r"^([ ]*```.*?^[ ]*```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")


def outside() -> dict[Path, str]:
    """Files outside of ``docs/`` -> their places in the site."""
    found = {ROOT / source: place for source, place in OUTSIDE.items()}
    for page in sorted((ROOT / "benchmarks/results").glob("*.md")):
        found[page] = f"benchmarks/{page.name}"
    for picture in sorted((ROOT / "weights").glob("*.[jp][pn]g")):
        found[picture] = f"assets/{picture.name}"
    for script in sorted((ROOT / "examples").glob("*.py")):
        found[script] = f"examples/{script.name}.txt"
    return found


def parts() -> list[str]:
    """Modules and packages of the library that have a page in the API reference."""
    return sorted(module.name for module in pkgutil.iter_modules(posfeat_hloc.__path__) if module.name not in LEFT_OUT)


def on_config(config: Any) -> Any:
    """List the pages of the API in the navigation."""
    for section in config.nav:
        if "API" in section:
            section["API"] = [f"api/{part}.md" for part in parts()]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add pages from outside of ``docs/`` and one page for each part of the package."""
    for path, place in outside().items():
        files.append(File.generated(config, place, abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV))
    for part in parts():
        text = f"# {part}\n\n::: posfeat_hloc.{part}\n    options: {{show_root_heading: false}}\n"
        files.append(File.generated(config, f"api/{part}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Translate links and equations of a page."""
    if page.file.src_uri.startswith("api/"):
        return markdown
    source = Path(page.file.abs_src_path)
    parts = _CODE.split(_equations(markdown) if source.name in ("posfeat.md", "d2d.md") else markdown)
    for i in range(0, len(parts), 2):
        parts[i] = _LINK.sub(lambda link: _translated(link, source, page.file.src_uri), parts[i])
    return "".join(parts)


def _translated(link: re.Match[str], source: Path, place: str) -> str:
    mark, text, target, anchor = link[1], link[2], link[3], link[4] or ""
    if not target or re.match(r"[a-z]+:", target):
        return link[0]
    path = Path(os.path.normpath(source.parent / target))
    docs = ROOT / "docs"
    known = outside()
    if path == ROOT / "README.md":
        goal = "index.md"
    elif path in known:
        goal = known[path]
    elif path.is_relative_to(docs):
        goal = path.relative_to(docs).as_posix()
    else:
        return text  # a folder or a file of the repository that is not part of the site
    start = os.path.dirname(place) or "."
    return f"{mark}[{text}]({os.path.relpath(goal, start).replace(os.sep, '/')}{anchor})"


def _equations(markdown: str) -> str:
    pieces = _CODE.split(markdown)
    for i in range(0, len(pieces), 2):
        pieces[i] = re.sub(
            r"\$\$(.+?)\$\$", lambda m: convert(m[1].strip(), display="block"), pieces[i], flags=re.DOTALL
        )
        pieces[i] = re.sub(r"\$([^$\n]+)\$", lambda m: convert(m[1]), pieces[i])
    return "".join(pieces)
