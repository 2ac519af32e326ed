"""The patch of hloc: which two-view geometries it completes, and that it is gone when it is taken back."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pycolmap
import pytest

from posfeat_hloc.errors import HlocError
from posfeat_hloc.hloc_plugin import cure_triangulation, patch_triangulation
from posfeat_hloc.hloc_plugin.triangulation import complete_geometries
from tests.fake_hloc import FILES, fake_hloc  # noqa: F401

Fake = Callable[..., ModuleType]
Kind = pycolmap.TwoViewGeometryConfiguration
MATCHES = np.array([[0, 1], [2, 3]], np.uint32)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Four images; pairs without a configuration, one of them without matches, and pairs with one."""
    path = tmp_path / "database.db"
    with pycolmap.Database.open(path) as db:
        camera = pycolmap.Camera(model="PINHOLE", width=100, height=80, params=[90, 90, 50, 40])
        camera.camera_id = db.write_camera(camera)
        for name in "abcd":
            db.write_image(pycolmap.Image(name=name, camera_id=camera.camera_id))
        for pair, kind, matches in [
            ((1, 2), Kind.UNDEFINED, MATCHES),
            ((3, 1), Kind.UNDEFINED, MATCHES),
            ((1, 4), Kind.UNDEFINED, MATCHES[:0]),
            ((2, 3), Kind.DEGENERATE, MATCHES),
            ((2, 4), Kind.PLANAR, MATCHES),
        ]:
            db.write_two_view_geometry(*pair, pycolmap.TwoViewGeometry(config=kind, inlier_matches=matches))
    return path


def kinds(path: Path) -> dict[tuple[int, int], object]:
    with pycolmap.Database.open(path) as db:
        found = {pair: db.read_two_view_geometry(*pair) for pair in COMPLETED}
    return {pair: (Kind(geometry.config), geometry.inlier_matches.tolist()) for pair, geometry in found.items()}


COMPLETED = {
    (1, 2): (Kind.CALIBRATED, MATCHES.tolist()),
    (1, 3): (Kind.CALIBRATED, MATCHES[:, ::-1].tolist()),
    (1, 4): (Kind.UNDEFINED, []),
    (2, 3): (Kind.DEGENERATE, MATCHES.tolist()),
    (2, 4): (Kind.PLANAR, MATCHES.tolist()),
}


def test_only_matches_without_a_configuration_change(database: Path) -> None:
    assert complete_geometries(database) == 2
    assert kinds(database) == COMPLETED
    assert complete_geometries(database) == 0
    assert kinds(database) == COMPLETED


@pytest.mark.parametrize(
    ("module", "step"), [("triangulation", "run_triangulation"), ("reconstruction", "run_reconstruction")]
)
def test_the_steps_of_hloc_see_a_completed_database(
    fake_hloc: Fake, database: Path, module: str, step: str  # noqa: F811
) -> None:  # fmt: skip
    fake_hloc()
    hloc = import_module(f"hloc.{module}")
    before, undefined = getattr(hloc, step), kinds(database)
    arguments = ("images", "reference")[: 2 if module == "triangulation" else 1]
    with patch_triangulation():
        assert kinds(database) == undefined
        assert getattr(hloc, step)("model", database, *arguments) == ("model", database)
        assert kinds(database) == COMPLETED
    assert getattr(hloc, step) is before


def test_arguments_by_name_and_an_error_inside(fake_hloc: Fake, database: Path) -> None:  # noqa: F811
    fake_hloc()
    hloc = import_module("hloc.reconstruction")
    before = hloc.run_reconstruction
    with pytest.raises(TypeError, match="view"), patch_triangulation():
        hloc.run_reconstruction(image_dir="images", sfm_dir="model", database_path=database, view=3)
    with pytest.raises(ZeroDivisionError), patch_triangulation():
        hloc.run_reconstruction(image_dir="images", sfm_dir=1 / 0, database_path=database)
    assert hloc.run_reconstruction is before
    with patch_triangulation():
        hloc.run_reconstruction(image_dir="images", sfm_dir="model", database_path=database)
    assert kinds(database) == COMPLETED
    assert hloc.run_reconstruction is before


def test_several_cures_end_with_the_last_in_any_order(fake_hloc: Fake) -> None:  # noqa: F811
    fake_hloc()
    hloc = import_module("hloc.triangulation")
    before = hloc.run_triangulation
    first, second = patch_triangulation(), patch_triangulation()
    cured = hloc.run_triangulation
    assert cured is not before
    first.close()
    first.close()
    assert hloc.run_triangulation is cured
    second.close()
    assert hloc.run_triangulation is before


def test_an_hloc_with_other_steps_is_left_as_it_is(fake_hloc: Fake) -> None:  # noqa: F811
    fake_hloc(**{"reconstruction.py": FILES["reconstruction.py"].replace("database_path", "db")})
    hloc = import_module("hloc.triangulation")
    before = hloc.run_triangulation
    for _ in range(2):
        with pytest.raises(HlocError, match=r"hloc 9\.8 .* hloc\.reconstruction\.run_reconstruction takes no database"):
            patch_triangulation()
        assert hloc.run_triangulation is before


def test_the_old_name_still_works_and_says_the_new_one(fake_hloc: Fake) -> None:  # noqa: F811
    fake_hloc()
    hloc = import_module("hloc.triangulation")
    before = hloc.run_triangulation
    with pytest.warns(DeprecationWarning, match="patch_triangulation"), cure_triangulation():
        assert hloc.run_triangulation is not before
    assert hloc.run_triangulation is before
