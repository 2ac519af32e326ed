"""The API reference is built without warnings, and its references lead somewhere."""

import importlib
import inspect
import pkgutil
import re
import runpy
from types import ModuleType

import pytest

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


def test_the_reference_is_built_without_warnings(tmp_path):
    pytest.importorskip("pdoc", reason="pdoc is not installed (pip install posfeat-hloc[docs])")
    script = runpy.run_path(str(REPOSITORY / "docs" / "api_reference.py"))
    pages = script["build"](tmp_path)
    documented = {".".join(page.relative_to(tmp_path).with_suffix("").parts) for page in tmp_path.rglob("*.html")}
    assert pages == len(documented)
    for name in set(modules()) - documented:  # shown on the page of their package, which lists its names
        package = name.rpartition(".")[0]
        assert package in documented
        assert hasattr(importlib.import_module(package), "__all__") or package == "posfeat_hloc.hloc_plugin", name
    page = (tmp_path / "posfeat_hloc" / "extract_features.html").read_text()
    assert "Extract what is missing or outdated" in page
