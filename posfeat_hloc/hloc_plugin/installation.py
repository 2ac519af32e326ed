"""The hloc that is installed: imported piece by piece, and checked to be built as this package expects."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from types import ModuleType

from posfeat_hloc.errors import HlocError

SOURCE = "git+https://github.com/cvg/Hierarchical-Localization.git@c13273bd0ecc2917a35910fd843712a1c6243193"
"""The commit of hloc that this package is tested with; ``requirements-hloc.txt`` names it, too."""
TESTED = "1.5"
WITHOUT_HLOC = (
    "`posfeat-hloc extract` and `match`, and the other commands, work without hloc and write the files it reads"
)


def load(name: str, *attributes: str) -> ModuleType:
    """Import ``hloc`` or a module of it that must have some attributes.

    Raises:
        HlocError: hloc or something it needs is missing, or it has no such module or attribute.
    """
    try:
        importlib.import_module("hloc")
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing == "hloc":
            raise HlocError(f'hloc is not installed: pip install "{SOURCE}"; {WITHOUT_HLOC}') from error
        if missing.startswith("hloc."):
            raise unknown(f"there is no module {missing}") from error
        raise HlocError(f"hloc {version()} needs {missing or error}, which is not installed; {WITHOUT_HLOC}") from error
    except (ImportError, AttributeError) as error:  # of a broken package, or of a pycolmap that hloc does not know
        raise HlocError(f"hloc {version()} cannot be imported ({error}); {WITHOUT_HLOC}") from error
    for attribute in attributes:
        if not hasattr(module, attribute):
            raise unknown(f"{name} has no {attribute}")
    return module


def unknown(what: str) -> HlocError:
    """An error for an hloc with another structure; ``what`` names the difference."""
    return HlocError(
        f"hloc {version()} is installed, but {what}; posfeat_hloc is made for hloc {TESTED} "
        f'(pip install "{SOURCE}"); {WITHOUT_HLOC}'
    )


def version() -> str:
    """What hloc calls itself."""
    found = getattr(sys.modules.get("hloc"), "__version__", None)
    if found is None:
        try:
            found = importlib.metadata.version("hloc")
        except importlib.metadata.PackageNotFoundError:
            found = "of unknown version"
    return str(found)
