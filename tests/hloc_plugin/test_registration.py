"""What register() does to an hloc, and what it says when there is none or another: with a small hloc made here."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import posfeat_hloc
from posfeat_hloc import confs
from posfeat_hloc.errors import HlocError
from posfeat_hloc.hloc_plugin import installation
from posfeat_hloc.hloc_plugin.registration import FINDER, model_names
from tests.fake_hloc import FILES, fake_hloc  # noqa: F401

Fake = Callable[..., ModuleType]
SIDES = [("extract_features", "extractors"), ("match_features", "matchers"), ("extract_features", "retrieval")]

PACKAGES = {"extractors": "extractors", "matchers": "matchers", "retrieval": "extractors"}


@pytest.fixture
def hloc(fake_hloc: Fake) -> ModuleType:  # noqa: F811
    return fake_hloc()


def confs_of(side: str) -> dict[str, Any]:
    return import_module(f"hloc.{side}").confs


@pytest.mark.parametrize(("side", "kind"), SIDES)
def test_every_conf_is_there_and_hlocs_own_are_as_before(hloc: ModuleType, side: str, kind: str) -> None:
    before = deepcopy(confs_of(side))
    registered = posfeat_hloc.register()
    names = getattr(registered, kind)
    after = confs_of(side)
    ours = getattr(confs, kind)
    assert names.keys() == ours.keys()
    features = side == "extract_features"
    together = [registered.extractors, registered.retrieval] if features else [registered.matchers]
    assert after.keys() == before.keys() | {there for part in together for there in part.values()}
    assert {name: after[name] for name in before} == before
    for name, there in names.items():
        assert there == (f"posfeat_hloc/{name}" if name in before else name)
        assert after[there]["model"] == ours[name]["model"]
        assert after[there].get("preprocessing") == ours[name].get("preprocessing")


def test_names_that_hloc_has_are_the_only_ones_changed(hloc: ModuleType) -> None:
    names = posfeat_hloc.register()
    assert [name for name, there in names.extractors.items() if name != there] == ["sift", "disk"]
    assert [name for name, there in names.matchers.items() if name != there] == ["NN-mutual", "NN-ratio"]


@pytest.mark.parametrize(("side", "kind"), SIDES)
def test_no_two_confs_share_a_file(hloc: ModuleType, side: str, kind: str) -> None:
    names = getattr(posfeat_hloc.register(), kind)
    outputs = [conf["output"] for conf in confs_of(side).values()]
    assert len(set(outputs)) == len(outputs)
    for name, there in names.items():
        expected = getattr(confs, kind)[name]["output"] + (".posfeat_hloc" if there != name else "")
        assert confs_of(side)[there]["output"] == expected


def test_an_output_that_hloc_writes_is_not_taken_even_under_another_name(fake_hloc: Fake) -> None:  # noqa: F811
    fake_hloc(**{"extract_features.py": FILES["extract_features.py"].replace("feats-disk", "feats-posfeat")})
    posfeat_hloc.register()
    assert confs_of("extract_features")["posfeat"]["output"] == "feats-posfeat.posfeat_hloc"


@pytest.mark.parametrize(("side", "kind"), SIDES)
def test_neither_side_changes_the_other(hloc: ModuleType, side: str, kind: str) -> None:
    before = deepcopy(getattr(confs, kind))
    for there in getattr(posfeat_hloc.register(), kind).values():
        confs_of(side)[there]["model"]["changed"] = True
        confs_of(side)[there]["output"] = "changed"
    assert getattr(confs, kind) == before


def test_again_changes_nothing_and_keeps_the_users_changes(hloc: ModuleType) -> None:
    first = posfeat_hloc.register()
    mine = confs_of("extract_features")["d2d-hardnet"]
    mine["model"]["max_keypoints"] = 7
    finders = list(sys.meta_path)
    before = deepcopy(confs_of("extract_features"))
    assert posfeat_hloc.register() == first
    assert confs_of("extract_features") == before
    assert confs_of("extract_features")["d2d-hardnet"] is mine
    assert sys.meta_path == finders


def test_again_adds_what_is_new(hloc: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    posfeat_hloc.register()
    mine = deepcopy(confs.extractors["sift"]) | {"output": "feats-mine"}
    monkeypatch.setitem(confs.extractors, "mine", mine)
    assert posfeat_hloc.register().extractors["mine"] == "mine"
    assert confs_of("extract_features")["mine"] == mine


def test_a_conf_that_the_user_put_there_is_never_overwritten(hloc: ModuleType) -> None:
    users = {"output": "feats-users", "model": {"name": "disk"}}
    confs_of("extract_features")["posfeat"] = users
    assert posfeat_hloc.register().extractors["posfeat"] == "posfeat_hloc/posfeat"
    confs_of("extract_features")["d2d-sosnet"] = users
    assert posfeat_hloc.register().extractors["d2d-sosnet"] == "posfeat_hloc/d2d-sosnet"
    posfeat_hloc.unregister()
    assert confs_of("extract_features")["posfeat"] is users
    assert confs_of("extract_features")["d2d-sosnet"] is users


def test_from_many_threads_at_once(hloc: ModuleType) -> None:
    barrier, results = threading.Barrier(12), []

    def call() -> None:
        barrier.wait()
        results.append(posfeat_hloc.register())

    threads = [threading.Thread(target=call) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 12
    assert all(result == results[0] for result in results)
    assert len(confs_of("extract_features")) == 2 + len(confs.extractors) + len(confs.retrieval)


@pytest.mark.parametrize(("side", "kind"), SIDES)
def test_hloc_loads_the_model_of_every_conf(hloc: ModuleType, side: str, kind: str) -> None:
    names = getattr(posfeat_hloc.register(), kind)
    base = import_module("hloc.utils.base_model")
    for there in names.values():
        name = confs_of(side)[there]["model"]["name"]
        package = PACKAGES[kind]
        model = base.dynamic_load(import_module(f"hloc.{package}"), name)
        assert issubclass(model, base.BaseModel)
        assert model.__module__ == f"hloc.{package}.{name}"
        assert model.default_conf == {"name": name}


@pytest.mark.parametrize("name", confs.extractors)
def test_our_own_dicts_load_our_models_too(hloc: ModuleType, name: str) -> None:
    """Also those of ``posfeat_hloc.confs`` whose method hloc has under the same name."""
    model = confs.extractors[name]["model"]["name"]
    assert model in model_names("hloc.extractors")
    with pytest.raises(ModuleNotFoundError, match=rf"{model} is a model of posfeat_hloc.*call posfeat_hloc\.register"):
        import_module(f"hloc.extractors.{model}")
    posfeat_hloc.register()
    spec = import_module(f"hloc.extractors.{model}").__spec__
    assert spec is not None
    assert spec.origin == "posfeat_hloc"


def test_what_nobody_has_is_missing_as_always(hloc: ModuleType) -> None:
    for name in ("hloc.extractors.alike", "hloc.matchers.posfeat", "hloc.posfeat", "posfeat"):
        with pytest.raises(ModuleNotFoundError, match=f"^No module named '{name}'$"):
            import_module(name)
    with pytest.raises(ModuleNotFoundError, match=r"nearest is a model of posfeat_hloc"):
        import_module("hloc.matchers.nearest")


def test_a_new_feature_needs_nothing_here(hloc: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(confs.extractors, "mine", confs.extractors["sift"] | {"model": {"name": "mine"}})
    posfeat_hloc.register()
    model = import_module("hloc.utils.base_model").dynamic_load(import_module("hloc.extractors"), "mine")
    assert model.default_conf == {"name": "mine"}


def test_no_model_has_a_name_of_hlocs() -> None:
    assert set(confs.HLOC_HAS).isdisjoint(model_names("hloc.extractors") + model_names("hloc.matchers"))


def test_unregister_leaves_hloc_as_it_was(hloc: ModuleType) -> None:
    before = {side: deepcopy(confs_of(side)) for side, _ in SIDES}
    posfeat_hloc.unregister()  # nothing to do
    posfeat_hloc.register()
    import_module("hloc.extractors.sift")
    import_module("hloc.extractors.dog")
    posfeat_hloc.unregister()
    assert {side: confs_of(side) for side, _ in SIDES} == before
    assert "hloc.extractors.sift" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        import_module("hloc.extractors.sift")
    assert "hloc.extractors.dog" in sys.modules
    assert posfeat_hloc.register().extractors["posfeat"] == "posfeat"
    import_module("hloc.extractors.sift")


def test_without_hloc_the_message_says_what_to_install_and_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hloc", None)
    with pytest.raises(
        HlocError, match=r"not installed: pip install .*Hierarchical-Localization.*posfeat-hloc extract"
    ):
        posfeat_hloc.register()


def test_the_commit_in_messages_is_that_of_the_requirements() -> None:
    path = Path(posfeat_hloc.__file__).parents[1] / "requirements-hloc.txt"
    if not path.exists():
        pytest.skip("requirements-hloc.txt is not beside an installed package")
    assert path.read_text(encoding="utf-8").splitlines()[-1] == f"hloc @ {installation.SOURCE}"


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("extract_features.py", "def main(): pass", "hloc 9.8 is installed, but hloc.extract_features has no confs"),
        ("match_features.py", "main = confs = 3", "hloc 9.8 is installed, but hloc.match_features.confs is not a dict"),
        ("utils/base_model.py", None, "hloc 9.8 is installed, but there is no module hloc.utils.base_model"),
        ("matchers/__init__.py", "import missing_package", "hloc 9.8 needs missing_package, which is not installed"),
        ("extractors/__init__.py", "import math; math.gone", "hloc 9.8 cannot be imported .*gone"),
        ("extractors/posfeat.py", "", "hloc.extractors has a model posfeat of its own"),
        ("matchers/nearest/__init__.py", "", "hloc.matchers has a model nearest of its own"),
    ],
)
def test_another_hloc_is_named_and_left_as_it_is(
    fake_hloc: Fake, name: str, code: str | None, message: str  # noqa: F811
) -> None:  # fmt: skip
    fake_hloc(**{name: code})
    with pytest.raises(HlocError, match=message) as raised:
        posfeat_hloc.register()
    assert "work without hloc" in str(raised.value)
    for side, _ in SIDES:
        assert "posfeat" not in str(getattr(sys.modules.get(f"hloc.{side}"), "confs", ""))
    assert not FINDER.registered


def test_another_package_that_happens_to_be_called_hloc(fake_hloc: Fake) -> None:  # noqa: F811
    fake_hloc(**(dict.fromkeys(FILES) | {"__init__.py": ""}))
    with pytest.raises(HlocError, match=r"^hloc .+ is installed, but there is no module hloc\.utils"):
        posfeat_hloc.register()


def test_confs_need_neither_hloc_nor_torch() -> None:
    code = (
        "import sys, posfeat_hloc.confs, posfeat_hloc.hloc_plugin\n"
        "print(sorted({'hloc', 'torch', 'pycolmap', 'h5py', 'numpy'} & set(sys.modules)))\n"
        "print(posfeat_hloc.confs.extractors['posfeat']['model']['name'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "posfeat"]


def test_a_name_that_the_package_does_not_have() -> None:
    with pytest.raises(AttributeError, match=r"posfeat_hloc.*'registre'"):
        posfeat_hloc.registre  # noqa: B018
