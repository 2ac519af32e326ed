"""Commands under test write no pages, which tests/report looks after: each takes a second or more."""

from collections.abc import Iterator

import pytest

from posfeat_hloc.evaluation.poses import TrueCamera
from tests.rendering import write_scene


@pytest.fixture(autouse=True, scope="package")
def without_pages() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("posfeat_hloc.cli.report.missing", lambda: ["(left out in tests)"])
        yield


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Six rendered photographs of a facade, and their true cameras."""
    folder = tmp_path_factory.mktemp("scene")
    cameras = write_scene(folder / "photos", 6)
    return folder / "photos", {name: TrueCamera(v.rotation, v.centre) for name, v in cameras.items()}
