"""The files of a miniature as an installed hloc reads them."""

import numpy as np
import pycolmap
import pytest

from posfeat_hloc.aachen.nvm import convert_nvm
from posfeat_hloc.localization.queries import read_queries

pytestmark = pytest.mark.hloc


def test_hlocs_converter_makes_the_same_model(rendered, tmp_path):
    pytest.importorskip("hloc", reason="hloc is not installed")
    from hloc import colmap_from_nvm

    root = rendered[0]
    nvm, intrinsics = root / "3D-models/aachen_cvpr2018_db.nvm", root / "3D-models/database_intrinsics.txt"
    colmap_from_nvm.main(nvm, intrinsics, root / "aachen.db", tmp_path / "theirs")
    convert_nvm(nvm, {q.name: q.camera for q in read_queries(intrinsics)}, tmp_path / "ours", progress=False)
    theirs, ours = (pycolmap.Reconstruction(tmp_path / name) for name in ("theirs", "ours"))
    by_name = {image.name: image for image in theirs.images.values()}
    assert len(by_name) == ours.num_images()
    for image in ours.images.values():
        other = by_name[image.name]
        np.testing.assert_allclose(image.cam_from_world().matrix(), other.cam_from_world().matrix(), atol=1e-12)
        assert list(image.camera.params) == list(other.camera.params)
        # theirs has empty 2D points where the NVM file leaves out features
        places = [[tuple(p.xy) for p in i.points2D if p.has_point3D()] for i in (image, other)]
        assert sorted(places[0]) == sorted(places[1])
    assert ours.num_points3D() == theirs.num_points3D()


def test_hloc_reads_the_lists_of_queries(rendered):
    parsers = pytest.importorskip("hloc.utils.parsers", reason="hloc is not installed")
    found = parsers.parse_image_lists(rendered[0] / "queries/*_time_queries_with_intrinsics.txt", with_intrinsics=True)
    assert sorted(name for name, _ in found) == sorted(query.name for query in rendered[1])
    truth = {query.name: query.camera for query in rendered[1]}
    assert all(list(camera.params) == list(truth[name].params) for name, camera in found)
