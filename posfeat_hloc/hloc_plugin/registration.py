"""Make this package's features, matchers and global descriptors visible to hloc by two lines in an hloc script.

    import posfeat_hloc
    posfeat_hloc.register()

    hloc.extract_features.main(hloc.extract_features.confs["d2d-hardnet"], images, outputs)

hloc finds a model by importing ``hloc.extractors.<name>`` or ``hloc.matchers.<name>`` and taking the one class in it.
Every model that a conf of this package names has such a module, made when it is asked for, once :func:`register` was
called; before, the import says so. hloc's own modules always come first.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_loader
from types import ModuleType

from posfeat_hloc import confs
from posfeat_hloc.hloc_plugin.installation import load, unknown

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
    """Module finder behind all others, so that hloc's own modules come first."""

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


def install_finder() -> None:
    """Install the module finder."""
    if FINDER not in sys.meta_path:
        sys.meta_path.append(FINDER)


Confs = dict[str, confs.Conf]

PREFIX = "posfeat_hloc/"
"""Before the name of a conf that hloc has, too."""
SUFFIX = ".posfeat_hloc"
"""After the name of the output of such a conf: two features never share a file."""


@dataclass(frozen=True)
class Names:
    """What the confs of this package are called inside hloc.

    Attributes:
        extractors: name in ``posfeat_hloc.confs.extractors`` -> name in ``hloc.extract_features.confs``.
        matchers: name in ``posfeat_hloc.confs.matchers`` -> name in ``hloc.match_features.confs``.
        retrieval: name in ``posfeat_hloc.confs.retrieval`` -> name in ``hloc.extract_features.confs``.
    """

    extractors: dict[str, str]
    matchers: dict[str, str]
    retrieval: dict[str, str]


_lock = threading.RLock()
_added: dict[tuple[str, str], confs.Conf] = {}  # (package of models, name in hloc) -> the very dict that was put there


def register() -> Names:
    """Put every conf of this package into hloc's, and make its models loadable by hloc.

    hloc gets copies: changing a conf on one side changes nothing on the other. A name that hloc has already
    (``sift``, ``NN-mutual``, ``NN-ratio``) stays hloc's; the conf of this package becomes ``posfeat_hloc/<name>``, and
    its output ``<output>.posfeat_hloc`` where hloc has the same. Calling it again, from any thread, adds what is new.

    Returns:
        the names under which hloc knows each conf.

    Raises:
        HlocError: hloc is missing, cannot be imported, or has an unexpected structure; nothing is changed then.
    """
    with _lock:
        sides = _sides()
        for side in sides:
            side.check()
        FINDER.registered = True
        return Names(*(side.add_confs() for side in sides))


def unregister() -> None:
    """Take everything back out of hloc that :func:`register` put there, but for confs that were replaced since."""
    with _lock:
        for side in _sides():
            side.withdraw()
        FINDER.withdraw()


@dataclass(frozen=True)
class _Side:
    """Features, matchers or global descriptors: hloc's package of models, its confs, and what is added to both."""

    package: ModuleType
    theirs: Confs
    ours: Confs

    def check(self) -> None:
        """Raise HlocError where hloc has another model of the same name, which would be loaded instead."""
        for model in model_names(self.package.__name__):
            if PathFinder.find_spec(f"{self.package.__name__}.{model}", self.package.__path__) is not None:
                raise unknown(f"{self.package.__name__} has a model {model} of its own")

    def add_confs(self) -> dict[str, str]:
        """Add the confs that are not there yet; returns our name -> name in hloc."""
        names, new = {}, {}
        outputs = {conf.get("output") for name, conf in self.theirs.items() if not self._is_ours(name)}
        for name, conf in self.ours.items():
            there = name if name not in self.theirs or self._is_ours(name) else PREFIX + name
            names[name] = there
            if there in self.theirs:
                continue
            new[there] = _added[self.package.__name__, there] = deepcopy(conf)
            if conf["output"] in outputs:
                new[there]["output"] += SUFFIX
        self.theirs.update(new)  # at once: another thread may be reading
        return names

    def withdraw(self) -> None:
        for name in [name for name in self.theirs if self._is_ours(name)]:
            del self.theirs[name], _added[self.package.__name__, name]

    def _is_ours(self, name: str) -> bool:
        return self.theirs.get(name) is _added.get((self.package.__name__, name), self)


def _sides() -> list[_Side]:
    """All sides of the installed hloc, in the order of :class:`Names`; hloc keeps global descriptors with features."""
    load("hloc.utils.base_model", "BaseModel", "dynamic_load")
    sides = []
    for verb, package, ours in (
        ("extract", "extractors", confs.extractors),
        ("match", "matchers", confs.matchers),
        ("extract", "extractors", confs.retrieval),
    ):
        theirs = load(f"hloc.{verb}_features", "confs", "main").confs
        if not isinstance(theirs, dict):
            raise unknown(f"hloc.{verb}_features.confs is not a dict")
        sides.append(_Side(load(f"hloc.{package}", "__path__"), theirs, ours))
    return sides
