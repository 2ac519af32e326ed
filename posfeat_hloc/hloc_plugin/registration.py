"""Make this package's features, matchers and global descriptors visible to hloc by two lines in an hloc script.

    import posfeat_hloc
    posfeat_hloc.register()

    hloc.extract_features.main(hloc.extract_features.confs["d2d-hardnet"], images, outputs)

hloc finds a model by importing ``hloc.extractors.<name>`` or ``hloc.matchers.<name>``;
:mod:`posfeat_hloc.hloc_plugin.model_finder` makes these modules. hloc's own modules always come first.
"""

from __future__ import annotations

import threading
from copy import deepcopy
from dataclasses import dataclass
from importlib.machinery import PathFinder
from types import ModuleType

from posfeat_hloc import confs
from posfeat_hloc.hloc_plugin.installation import load, unknown
from posfeat_hloc.hloc_plugin.model_finder import FINDER, model_names

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
        HlocError: hloc is missing, cannot be imported, or is built otherwise than expected; nothing is changed then.
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
