"""The examples and the guide's extractor are run on small images, as a user runs them."""

import runpy
import sys
import types

import numpy as np
import pycolmap
import pytest
from PIL import Image

from posfeat_hloc import confs, extract_features, extractors
from posfeat_hloc.stores import FeatureStore
from tests.docs.pages import REPOSITORY, blocks
from tests.rendering import arc, render


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name, view in zip("abc", arc(9)[3:6], strict=True):
        Image.fromarray(render(view)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def run(monkeypatch):
    """``run(name, *arguments)`` runs an example as a script; returns its global names."""

    def start(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        return runpy.run_path(str(REPOSITORY / "examples" / name), run_name="__main__")

    return start


def small(monkeypatch, feature):
    """Fewer keypoints for a conf, so that the test is quick."""
    monkeypatch.setitem(confs.extractors[feature]["model"], "max_keypoints", 500)
    monkeypatch.setitem(confs.extractors[feature]["preprocessing"], "resize_max", 240)


def test_the_library_step_by_step(run, photos, tmp_path, monkeypatch, capsys):
    small(monkeypatch, "posfeat-small")
    run("hloc_style.py", photos, tmp_path)
    assert "a.png: 500 keypoints" in capsys.readouterr().out
    assert (tmp_path / "sparse/0/points3D.bin").stat().st_size > 1000


def test_d2d_on_an_own_network(run, photos, capsys):
    found = run("own_network.py", photos / "a.png")
    assert "1000 keypoints" in capsys.readouterr().out
    cells = found["cells"].numpy()
    assert len(np.unique(cells, axis=0)) == 1000
    assert (cells.max(axis=0) < found["dense"].shape[:1:-1]).all()


def test_matches_of_two_photographs_are_drawn(run, photos, tmp_path, capsys):
    output = tmp_path / "matches.png"
    run("plot_matches.py", photos / "a.png", photos / "b.png", "--feature", "sift", "--output", output)
    with Image.open(output) as picture:
        assert picture.width >= 800
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 256  # lines in color over grey images


def test_models_are_drawn_side_by_side(run, tmp_path):
    pytest.importorskip("matplotlib")
    for name in ("one", "two"):
        write_model(tmp_path / name)
    run("plot_model.py", f"one={tmp_path / 'one'}", f"two={tmp_path / 'two'}", "--output", tmp_path / "models.png")
    with Image.open(tmp_path / "models.png") as picture:
        assert picture.width > picture.height > 100
        assert len(np.unique(np.asarray(picture.convert("L")))) > 50


def write_model(folder):
    """A box of points seen by cameras on an arc."""
    folder.mkdir()
    options = pycolmap.SyntheticDatasetOptions()
    options.num_frames_per_rig = 5
    options.num_points3D = 60
    pycolmap.synthesize_dataset(options).write(folder)


def test_the_extractor_of_the_guide_works_as_it_stands(photos, tmp_path, monkeypatch):
    code, conf = blocks((REPOSITORY / "docs/add_a_feature.md").read_text(encoding="utf-8"), "python")
    module = types.ModuleType("posfeat_hloc.extractors.mine")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(code, vars(module))
    names: dict[str, dict] = {}
    exec(conf, names)
    made = extractors.create(names["CONF"]["model"])
    assert made.options.max_keypoints == names["CONF"]["model"]["max_keypoints"]
    report = extract_features.extract(names["CONF"], photos, tmp_path / "f.h5", progress=False)
    with FeatureStore(tmp_path / "f.h5") as store:
        for name in report.names:
            features = store.read(name)
            assert len(features) == 1000
            np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=2e-3)
            assert (features.keypoints > -0.51).all()
            assert (features.keypoints < np.array(store.image_size(name)) - 0.49).all()
