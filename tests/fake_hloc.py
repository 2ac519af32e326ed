"""A package called hloc with the parts that the plugin touches, for tests where hloc is not installed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from posfeat_hloc.hloc_plugin.registration import FINDER

FILES = {
    "__init__.py": "import logging\n__version__ = '9.8'\nlogger = logging.getLogger('fake hloc')\n",
    "utils/__init__.py": "",
    "utils/base_model.py": """
import importlib
from torch import nn

class BaseModel(nn.Module):
    default_conf = {}
    required_inputs = []

    def __init__(self, conf):
        super().__init__()
        self.conf = {**self.default_conf, **conf}
        self._init(self.conf)

    def forward(self, data):
        assert all(key in data for key in self.required_inputs)
        return self._forward(data)

def dynamic_load(root, name):
    module = importlib.import_module(f"{root.__name__}.{name}")
    (found,) = [
        value for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__ and issubclass(value, BaseModel)
    ]
    return found
""",
    "extractors/__init__.py": "",
    "extractors/dog.py": "",
    "matchers/__init__.py": "",
    "extract_features.py": """
calls = []
confs = {
    "sift": {"output": "feats-sift", "model": {"name": "dog"}, "preprocessing": {"grayscale": True}},
    "disk": {"output": "feats-disk", "model": {"name": "disk"}, "preprocessing": {"grayscale": False}},
}

def main(conf, image_dir, export_dir=None, as_half=True, image_list=None, feature_path=None, overwrite=False):
    if not image_dir.exists():
        raise ValueError("Could not find any image")
    calls.append(locals())
""",
    "match_features.py": """
calls = []
confs = {
    "NN-mutual": {"output": "matches-NN-mutual", "model": {"name": "nearest_neighbor"}},
    "NN-ratio": {"output": "matches-NN-mutual-ratio.8", "model": {"name": "nearest_neighbor"}},
}

def main(conf, pairs, features, export_dir=None, matches=None, features_ref=None, overwrite=False):
    calls.append(locals())
""",
    "triangulation.py": """
def run_triangulation(model_path, database_path, image_dir, reference_model, verbose=False, options=None):
    return model_path, database_path
""",
    "reconstruction.py": """
def run_reconstruction(sfm_dir, database_path, image_dir, verbose=False, options=None):
    return sfm_dir, database_path
""",
}


@pytest.fixture
def fake_hloc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """``fake_hloc("some.py"=code)`` makes the package, with files replaced (None: left out), and returns it imported.

    Whatever was imported of a real hloc is back afterwards.
    """
    monkeypatch.setattr(FINDER, "registered", False)
    set_aside = {name: sys.modules.pop(name) for name in list(sys.modules) if _depends_on_hloc(name)}

    def make(**replaced: str | None) -> ModuleType:
        for name, code in (FILES | replaced).items():
            path = tmp_path / "installed" / "hloc" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if code is not None:
                path.write_text(code)
        monkeypatch.syspath_prepend(tmp_path / "installed")
        return importlib.import_module("hloc")

    yield make
    for name in [name for name in sys.modules if _depends_on_hloc(name)]:
        del sys.modules[name]
    sys.modules.update(set_aside)


def _depends_on_hloc(module: str) -> bool:
    return module.split(".")[0] == "hloc" or module.startswith("posfeat_hloc.hloc_plugin.models")
