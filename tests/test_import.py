"""Importing the package: in any order with pycolmap, and what is there without further imports."""

import subprocess
import sys

import posfeat_hloc


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_pycolmap_before_pillow_is_warned_of() -> None:
    found = python("import pycolmap; import posfeat_hloc")
    assert found.returncode == 0
    assert "RuntimeWarning: pycolmap was imported before Pillow" in found.stderr
    assert "before `import pycolmap`" in found.stderr


def test_the_right_order_saves_a_png_without_a_warning() -> None:
    code = (
        "import posfeat_hloc, pycolmap, io; from PIL import Image; Image.new('L', (64, 64)).save(io.BytesIO(), 'PNG')"
    )
    found = python(code)
    assert (found.returncode, found.stderr) == (0, "")


def test_the_plugin_is_there_after_a_bare_import() -> None:
    code = "import posfeat_hloc; print(posfeat_hloc.hloc_plugin.patch_triangulation.__name__)"
    assert python(code).stdout == "patch_triangulation\n"


def test_a_bare_import_needs_no_torch_and_offers_the_pipelines() -> None:
    code = "import posfeat_hloc, sys; print('torch' in sys.modules, 'pycolmap' in sys.modules)"
    assert python(code).stdout == "False False\n"
    for name in posfeat_hloc._FROM:
        assert getattr(posfeat_hloc, name).__name__ == name
    assert set(posfeat_hloc._FROM) <= set(dir(posfeat_hloc))
