import re
import shutil
from typing import get_args

import pytest

from posfeat_hloc.aachen.layout import detect_version, open_dataset
from posfeat_hloc.aachen.miniature import MiniatureOptions, make_miniature
from posfeat_hloc.aachen.options import Protocol, Version
from posfeat_hloc.errors import ConfigurationError
from tests.aachen.conftest import SMALL


@pytest.fixture(scope="module")
def as_posfeat_has_it(tmp_path_factory):
    root = tmp_path_factory.mktemp("posfeat") / "data"
    make_miniature(root, MiniatureOptions(**{**SMALL, "queries": 1}, layout="posfeat"), progress=False)
    return root


@pytest.mark.parametrize("version", get_args(Version))
@pytest.mark.parametrize("protocol", get_args(Protocol))
def test_files_are_found_in_every_layout(rendered, as_posfeat_has_it, version, protocol):
    ending = "_v1_1" if version == "v1.1" else ""
    for root, challenge, images in ((rendered[0], ".", "images_upright"),
                                    (as_posfeat_has_it, "others", "images/images_upright")):  # fmt: skip
        dataset = open_dataset(root, version, protocol)
        assert dataset.images == root / images
        assert dataset.database_names == [f"db/{i + 1}.jpg" for i in range(5)]
        kinds = ["day", "night"] if protocol == "hloc" else ["night"]
        assert list(dataset.queries) == kinds
        assert all(any(f"/{kind}/" in name for kind in kinds) for name in dataset.query_names)
        if protocol == "challenge":
            assert dataset.pairs == root / challenge / f"image_pairs_to_match{ending}.txt"
            assert dataset.database == root / challenge / f"database{ending}.db"
        else:
            assert dataset.pairs is None
        assert dataset.model.suffix == (".nvm" if version == "v1" else "")
    night = open_dataset(as_posfeat_has_it, version).queries["night"]
    assert night.name == f"night_time_queries_with_intrinsics{ending}.txt"  # hloc's pattern misses v1.1's


def test_images_may_lie_where_the_challenge_wants_them(rendered, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(rendered[0], root)
    (root / "images").mkdir()
    (root / "images_upright").rename(root / "images/images_upright")
    assert open_dataset(root, "v1.1", "challenge").images == root / "images/images_upright"


def test_v1_1_can_come_as_nvm(rendered, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(rendered[0], root)
    model = root / "3D-models/aachen_v_1_1"
    (root / "3D-models/aachen_cvpr2018_db.nvm").rename(model / "aachen_v_1_1.nvm")
    for path in model.glob("*.bin"):
        path.unlink()
    dataset = open_dataset(root, "v1.1")
    assert dataset.model == model / "aachen_v_1_1.nvm"
    assert dataset.intrinsics == model / "database_intrinsics_v1_1.txt"


def test_the_version_is_found_out(rendered, tmp_path):
    assert detect_version(rendered[0]) == "v1.1"
    root = tmp_path / "data"
    shutil.copytree(rendered[0], root)
    shutil.rmtree(root / "3D-models/aachen_v_1_1")
    (root / "image_pairs_to_match_v1_1.txt").unlink()
    assert open_dataset(root).version == "v1"


def test_everything_that_is_missing_is_said_at_once(rendered, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(rendered[0], root)
    gone = ["3D-models/database_intrinsics.txt", "image_pairs_to_match.txt", "database.db",
            "queries/day_time_queries_with_intrinsics.txt", "images_upright/db/3.jpg"]  # fmt: skip
    for name in gone:
        (root / name).unlink()
    night = next((root / "images_upright/query/night").rglob("*.jpg"))
    night.unlink()
    with pytest.raises(ConfigurationError) as hloc:
        open_dataset(root, "v1", "hloc")
    with pytest.raises(ConfigurationError) as challenge:
        open_dataset(root, "v1", "challenge")
    for name, error in ((gone[0], hloc), (gone[0], challenge), (gone[1], challenge), (gone[2], challenge),
                        (gone[3], hloc), (gone[4], hloc), (gone[4], challenge), (night.name, challenge)):  # fmt: skip
        assert name in str(error.value)
    assert "database.db" not in str(hloc.value)
    lines = [line for line in str(hloc.value).splitlines() if line.startswith("  ")]
    assert all(re.search(r": \w", line) for line in lines)  # each says what it is for
    assert len(lines) == 4


def test_many_missing_images_are_counted(rendered, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(rendered[0], root, ignore=shutil.ignore_patterns("*.jpg"))
    with pytest.raises(ConfigurationError) as error:
        open_dataset(root, "v1")
    assert len(re.findall("photograph$", str(error.value), re.MULTILINE)) == 9  # 5 and 4, each by name


def test_an_empty_or_missing_folder_lists_all_files(tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"no such folder.*visuallocalization\.net.*posfeat-hloc miniature-aachen"
    ):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError) as error:
        open_dataset(tmp_path, "v1", "challenge")
    assert len([line for line in str(error.value).splitlines() if line.startswith("  ")]) == 6
