"""Which weights are here, and whether they are whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from posfeat_hloc import weights
from posfeat_hloc.doctor.findings import Finding
from posfeat_hloc.errors import WeightsError
from posfeat_hloc.weights.conversion import architecture_of, load_as

_GET = "posfeat-hloc weights get"


def checks() -> list[tuple[str, Callable[[], Finding]]]:
    """A check for each file of weights that is here or must be, and one for those that can be downloaded."""
    found: list[tuple[str, Callable[[], Finding]]] = [(name, partial(check_bundled, name)) for name in weights.BUNDLED]
    here = [name for name in weights.PUBLIC if weights.public_path(name).is_file()]
    found += [(name, partial(check_public, name)) for name in here]
    missing = len(weights.PUBLIC) - len(here)
    if missing:
        text = f"{missing} not downloaded; none is needed (posfeat-hloc weights list)"
        found.append(("others, public", lambda: Finding("ok", text)))
    return found


def check_bundled(name: str) -> Finding:
    """Weights of the package: hash, and loaded as what they are."""
    try:
        identity = load_as(architecture_of(name), name)
    except WeightsError as error:
        return Finding("fail", str(error), "pip install --force-reinstall posfeat-hloc, from where you installed it")
    return Finding("ok", f"in the package, {identity.parameters / 1e6:.2f} M parameters, hash as promised")


def check_public(name: str) -> Finding:
    """A downloaded copy; a damaged one is fetched again when it is used."""
    path = weights.public_path(name)
    if not weights.is_published(path, name):
        return Finding("warn", f"{path} is not the published file", f"{_GET} {name}")
    try:
        identity = load_as(architecture_of(name), str(path))
    except WeightsError as error:
        return Finding("warn", str(error), f"{_GET} {name}")
    return Finding("ok", f"downloaded, {identity.parameters / 1e6:.2f} M parameters, hash as published")
