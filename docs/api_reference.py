"""Build the API reference as HTML pages from the docstrings.

    python docs/api_reference.py --output api

Needs pdoc (`pip install ".[docs]"`). Any warning of pdoc is an error.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

MODULES = ["posfeat_hloc", "pipelines", "!posfeat_hloc.hloc_plugin.extractors", "!posfeat_hloc.hloc_plugin.matchers"]
"""What is documented; the excluded classes need an installed hloc to be imported."""


def build(output: Path) -> int:
    """Write the pages; returns their number. Raises UserWarning for what cannot be documented."""
    import pdoc

    pdoc.render.configure(docformat="google", show_source=False, search=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)
        pdoc.pdoc(*MODULES, output_directory=output)
    return len(list(output.rglob("*.html")))


def main() -> None:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("api"), help="folder (default: %(default)s)")
    args = parser.parse_args()
    print(f"{build(args.output)} pages in {args.output}")


if __name__ == "__main__":
    main()
