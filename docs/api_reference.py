"""Build the API reference as HTML pages from the docstrings.

    python docs/api_reference.py --output api

Needs pdoc (`pip install ".[docs]"`). Any warning of pdoc is an error.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

MODULES = ["posfeat_hloc", "pipelines", "!posfeat_hloc.hloc_plugin.(extractors|matchers|models)"]
"""What is documented, as pdoc takes it; classes that only an installed hloc can import are left out."""


def build(output: Path) -> int:
    """Write the pages; returns their number. Raises UserWarning for what cannot be documented."""
    os.environ["PDOC_ALLOW_EXEC"] = "1"  # imports ask the system what it is
    import pdoc

    pdoc.render.configure(docformat="google", show_source=False, search=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)
        # a NamedTuple's constructor does not know the module of its class: pdoc prints these types as they are written
        warnings.filterwarnings("ignore", message=r"Error parsing type annotation ForwardRef\('Tensor'\)")
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
