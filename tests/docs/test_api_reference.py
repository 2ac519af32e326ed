"""References in docstrings and names on pages about the papers lead somewhere; .ci/run builds the site."""

import importlib
import inspect
import pkgutil
import re
from types import ModuleType

import pipelines
import posfeat_hloc
from tests.docs.pages import REPOSITORY

NEED_HLOC = tuple(f"posfeat_hloc.hloc_plugin.{name}" for name in ("extractors", "matchers", "models"))


def modules() -> list[str]:
    found = [
        name
        for package in (posfeat_hloc, pipelines)
        for _, name, _ in pkgutil.walk_packages(package.__path__, package.__name__ + ".", onerror=lambda _: None)
    ]
    return [name for name in found if not name.startswith(NEED_HLOC) and not name.endswith(".__main__")]


def resolve(target: str, module: ModuleType, owner: object) -> bool:
    """Whether a reference in a docstring of ``owner`` in ``module`` names something."""
    for start in (owner, module):
        value = start
        for part in target.split("."):
            value = getattr(value, part, None) or getattr(value, "__dataclass_fields__", {}).get(part)
            if value is None:
                break
        else:
            return True
    parts = target.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            value = getattr(value, part, None)
        return value is not None
    return False


def docstrings(module: ModuleType):
    yield module, inspect.getdoc(module) or ""
    for value in vars(module).values():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        yield value, inspect.getdoc(value) or ""
        if inspect.isclass(value):
            for member in vars(value).values():
                if inspect.isfunction(member) or isinstance(member, property):
                    yield value, inspect.getdoc(member) or ""


def test_references_in_docstrings_lead_somewhere():
    dead, count = [], 0
    for name in modules():
        module = importlib.import_module(name)
        for owner, text in docstrings(module):
            for target in re.findall(r":(?:class|func|meth|mod|attr|data):`[~.]?([^`]+)`", text):
                count += 1
                if not resolve(target, module, owner):
                    dead.append(f"{name}: {target}")
    assert count > 50
    assert dead == []


def test_a_dead_reference_is_seen():
    from posfeat_hloc.stores import hdf5

    assert resolve("Hdf5Store.commit", hdf5, hdf5)
    assert resolve("posfeat_hloc.features.Matches", hdf5, hdf5)
    assert not resolve("Hdf5Store.nothing", hdf5, hdf5)
    assert not resolve("posfeat_hloc.nothing.Matches", hdf5, hdf5)


def test_functions_named_beside_equations_exist():
    """The pages about the papers name the functions that compute each equation."""
    for page in ("posfeat.md", "d2d.md"):
        text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
        names = re.findall(r"`(posfeat_hloc\.[\w.]+)`", text)
        assert len(names) > 8
        assert [name for name in names if not resolve(name, posfeat_hloc, posfeat_hloc)] == []
