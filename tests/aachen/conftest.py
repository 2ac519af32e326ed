import pytest

from posfeat_hloc.aachen.miniature import MiniatureOptions, make_miniature

SMALL = {"database": 5, "queries": 2, "size": (160, 120), "points": 400}


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """A data set of few small images in the layout of the unpacked archives, and its queries with true poses."""
    root = tmp_path_factory.mktemp("aachen") / "data"
    return root, make_miniature(root, MiniatureOptions(**SMALL), progress=False)
