"""The modules that hloc imports for models of this package, made when they are asked for.

hloc loads a model by importing ``hloc.extractors.<name>`` or ``hloc.matchers.<name>`` and taking the one class in it.
Every model that a conf of this package names has such a module once :func:`posfeat_hloc.register` was called; before,
the import says so, where Python would say no more than that there is no such module.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

from posfeat_hloc import confs

_KINDS = {
    "ExtractorModel": ("hloc.extractors", confs.extractors),
    "DescriberModel": ("hloc.extractors", confs.retrieval),
    "MatcherModel": ("hloc.matchers", confs.matchers),
}
"""Class of :mod:`posfeat_hloc.hloc_plugin.models` -> where hloc looks for its like, and the confs that name them."""


def model_names(package: str) -> list[str]:
    """The models of this package that hloc finds in ``hloc.extractors`` or ``hloc.matchers``."""
    found = {c["model"]["name"] for there, ours in _KINDS.values() if there == package for c in ours.values()}
    return sorted(found)


class ModelFinder(MetaPathFinder, Loader):
    """The last to be asked for a module, so that hloc's own come first."""

    registered = False
    """Whether hloc is given models; otherwise imports of them fail with a message."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module of a model; None for all that is none.

        Raises:
            ModuleNotFoundError: a model of this package, and it is not registered.
        """
        package, _, model = fullname.rpartition(".")
        if not package.startswith("hloc.") or model not in model_names(package):
            return None
        if not self.registered:
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: {model} is a model of posfeat_hloc, which hloc does not know yet; "
                "call posfeat_hloc.register() once, before hloc's functions",
                name=fullname,
            )
        return spec_from_loader(fullname, self, origin="posfeat_hloc")

    def exec_module(self, module: ModuleType) -> None:
        """Put the class of the model there."""
        package, _, name = module.__name__.rpartition(".")
        kind = next(
            kind
            for kind, (there, ours) in _KINDS.items()
            if there == package and any(conf["model"]["name"] == name for conf in ours.values())
        )
        base = getattr(import_module("posfeat_hloc.hloc_plugin.models"), kind)  # needs hloc
        contents = {
            "__module__": module.__name__,
            "__doc__": f"The model {name!r} of posfeat_hloc; its options are those of its conf there.",
            "default_conf": {"name": name},
        }
        vars(module)[kind] = type(kind, (base,), contents)

    def withdraw(self) -> None:
        """Let go of the modules that were made, and make no more."""
        self.registered = False
        for fullname, module in list(sys.modules.items()):
            if getattr(module, "__loader__", None) is self:
                package, _, name = fullname.rpartition(".")
                del sys.modules[fullname]
                vars(sys.modules[package]).pop(name, None)


FINDER = ModelFinder()


def install() -> None:
    """Be asked for modules from now on."""
    if FINDER not in sys.meta_path:
        sys.meta_path.append(FINDER)
