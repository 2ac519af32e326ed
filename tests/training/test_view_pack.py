import numpy as np
import pytest

from posfeat_hloc.errors import DataError
from posfeat_hloc.training.view_pack import PackedPair, PackWriter, join, read_pack


def _smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 / width, y * 255 / height, (x + y) * 127 / (height + width)], axis=-1).astype(np.uint8)


def test_a_pack_gives_back_photographs_and_pairs(tmp_path):
    points = np.array([[1, 2, 3, 4], [5.5, 6.5, 7.5, 8.5]], np.float32)
    matrix, homography = np.arange(9.0).reshape(3, 3), np.diag([2.0, 3.0, 1.0])
    calibrations = np.stack([np.eye(3), 2 * np.eye(3)])
    with PackWriter(tmp_path / "views.h5", max_size=100) as writer:
        first, scale = writer.add_image(_smooth(100, 200), "a.jpg", "scene")
        second, _ = writer.add_image(_smooth(60, 40), "b.jpg", "camera")
        writer.add_pair(PackedPair(first, second, points, None, matrix, calibrations))
        writer.add_pair(PackedPair(second, first, np.zeros((0, 4), np.float32), homography))
    pack = read_pack(tmp_path / "views.h5")
    assert scale == (0.5, 0.5)
    assert [image.shape for image in pack.images] == [(50, 100, 3), (60, 40, 3)]
    assert np.abs(pack.images[1].astype(int) - _smooth(60, 40)).mean() < 4  # lossy
    assert (pack.names, pack.groups) == (["a.jpg", "b.jpg"], ["scene", "camera"])
    model, fixed = pack.pairs
    np.testing.assert_array_equal(model.points, points)
    np.testing.assert_array_equal(model.fundamental, matrix)
    np.testing.assert_array_equal(model.calibrations, calibrations)
    assert model.homography is None
    np.testing.assert_array_equal(fixed.homography, homography)
    assert (fixed.image0, fixed.image1, len(fixed.points)) == (1, 0, 0)
    assert fixed.fundamental is None


def test_joined_packs_count_their_photographs_on(tmp_path):
    for name in ("one", "two"):
        with PackWriter(tmp_path / f"{name}.h5") as writer:
            for k in range(2):
                writer.add_image(_smooth(32, 32), f"{k}.jpg", name)
            writer.add_pair(PackedPair(0, 1, np.ones((3, 4), np.float32)))
    both = join([read_pack(tmp_path / f"{name}.h5") for name in ("one", "two")])
    assert [(p.image0, p.image1) for p in both.pairs] == [(0, 1), (2, 3)]
    assert both.groups == ["one", "one", "two", "two"]


def test_a_file_that_is_no_pack_is_named(tmp_path):
    (tmp_path / "no.h5").write_bytes(b"nothing")
    for name in ("no.h5", "missing.h5"):
        with pytest.raises(DataError, match=rf"{name}.*posfeat-hloc pack-views"):
            read_pack(tmp_path / name)


def test_a_failed_writer_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError), PackWriter(tmp_path / "views.h5"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
