import numpy as np
import pytest
from PIL import Image

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.evaluation.sequences import HIGH_RESOLUTION, HPATCHES, find_sequences, read_homography
from tests.sequences import write_sequence


def test_the_protocol_keeps_52_and_56_of_116_sequences():
    kept = HPATCHES - HIGH_RESOLUTION
    assert len(HPATCHES) == 116
    assert HIGH_RESOLUTION < HPATCHES
    assert sum(name.startswith("i_") for name in kept) == 52
    assert sum(name.startswith("v_") for name in kept) == 56


def test_both_layouts_are_found_side_by_side(tmp_path):
    truth = write_sequence(tmp_path / "v_wall", "hpatches", moved=True)
    write_sequence(tmp_path / "i_books", "hpatches", moved=False)
    write_sequence(tmp_path / "graf", "oxford", moved=True, suffix=".png")
    write_sequence(tmp_path / "bikes", "oxford", moved=False, suffix=".png")
    found = find_sequences(tmp_path)
    assert {s.name: s.change for s in found.sequences} == {
        "bikes": "other", "graf": "viewpoint", "i_books": "illumination", "v_wall": "viewpoint"
    }  # fmt: skip
    wall = found.sequences[-1]
    assert wall.images == tuple(f"v_wall/{i}.ppm" for i in range(1, 7))
    np.testing.assert_allclose(wall.homographies, truth, rtol=1e-10)
    assert not found.is_hpatches
    assert len(found.absent) == 106
    assert "v_wall" not in found.absent


def test_the_original_image_is_taken_where_a_copy_lies_beside_it(tmp_path):
    write_sequence(tmp_path / "v_wall", "hpatches", moved=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "v_wall/1.jpg")
    assert find_sequences(tmp_path).sequences[0].images[0] == "v_wall/1.ppm"


def test_what_is_left_out_or_incomplete_is_named(tmp_path):
    for name in ("v_talent", "i_books", "v_wall"):
        write_sequence(tmp_path / name, "hpatches", moved=True)
    (tmp_path / "v_wall/4.ppm").unlink()
    (tmp_path / "notes").mkdir()
    found = find_sequences(tmp_path)
    assert [s.name for s in found.sequences] == ["i_books"]
    assert found.is_hpatches
    assert found.left_out == ["v_talent"]
    assert "v_wall: holds no image 4.ppm" in found.unusable["v_wall"]
    assert "notes" in found.unusable


@pytest.mark.parametrize(
    "content", ["", "1 0 0\n0 1\n0 0 1\n", "a b c\nd e f\ng h i\n", "1 0 0\n0 1 0\n", "1 0 0\n0 nan 0\n0 0 1\n",
                "1 2 3\n2 4 6\n0 0 1\n", "1 0 0 0 1 0 0 0 1\n"]
)  # fmt: skip
def test_a_homography_that_does_not_parse_is_named(tmp_path, content):
    (tmp_path / "H_1_3").write_text(content)
    with pytest.raises(ConfigurationError, match=r"H_1_3: .*get the file again"):
        read_homography(tmp_path / "H_1_3")
    write_sequence(tmp_path / "d/v_wall", "hpatches", moved=True)
    write_sequence(tmp_path / "d/v_bird", "hpatches", moved=True)
    (tmp_path / "d/v_wall/H_1_3").write_text(content)
    assert "H_1_3" in find_sequences(tmp_path / "d").unusable["v_wall"]


def test_wrong_folders_show_what_was_expected_and_found(tmp_path):
    with pytest.raises(ConfigurationError, match="no such folder"):
        find_sequences(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match=r"expected HPatches: .*found nothing"):
        find_sequences(tmp_path)
    (tmp_path / "a.jpg").touch()
    with pytest.raises(ConfigurationError, match=r"expected HPatches: .*found a\.jpg"):
        find_sequences(tmp_path)
    (tmp_path / "hpatches-sequences-release").mkdir()
    with pytest.raises(ConfigurationError, match=r"found .*hpatches-sequences-release: holds no image"):
        find_sequences(tmp_path)
    (tmp_path / "hpatches-sequences-release").rmdir()
    write_sequence(tmp_path / "v_talent", "hpatches", moved=True)
    with pytest.raises(ConfigurationError, match=r"the protocol leaves out \(v_talent\)"):
        find_sequences(tmp_path)


def test_a_fixed_camera_has_pairs_that_nothing_moves(tmp_path):
    (tmp_path / "square").mkdir()
    for k in range(9):
        Image.new("RGB", (8, 8), (k, k, k)).save(tmp_path / f"square/{k}.jpg")
    (tmp_path / "notes").mkdir()
    found = find_sequences(tmp_path, fixed_camera=True)
    (view,) = found.sequences
    assert view.pairs[:4] == ((0, 1), (0, 4), (0, 7), (1, 2))  # 13 steps of nine images are four
    assert (8, 6) in view.pairs
    assert len(view.pairs) == len(set(view.pairs)) == 27
    assert all((h == np.eye(3)).all() for h in view.homographies)
    assert "notes: holds 0 images" in found.unusable["notes"]


def test_pairs_of_evd_have_a_homography(tmp_path):
    for part in "12h":
        (tmp_path / part).mkdir()
    for part in "12":
        Image.new("RGB", (8, 8)).save(tmp_path / part / "cafe.png")
    (tmp_path / "h/cafe.txt").write_text("1 0 5\n0 1 2\n0 0 1\n")
    (tmp_path / "h/dum.txt").write_text("1 0 5\n0 1 2\n0 0 1\n")
    found = find_sequences(tmp_path)
    (pair,) = found.sequences
    assert pair.images == ("1/cafe.png", "2/cafe.png")
    assert pair.pairs == ((0, 1),)
    np.testing.assert_array_equal(pair.homographies[0], [[1, 0, 5], [0, 1, 2], [0, 0, 1]])
    assert "the two images of dum are not there" in found.unusable["dum"]


def test_pairs_of_homogr_have_marked_points(tmp_path):
    """MATLAB counts pixels from one: points and homography are moved by one pixel, and still fit each other."""
    savemat = pytest.importorskip("scipy.io").savemat
    rng = np.random.default_rng(0)
    model = np.array([[1.1, 0.05, 7], [-0.02, 0.9, 3], [1e-4, -2e-4, 1]])
    first = np.c_[rng.uniform(1, 300, (8, 2)), np.ones(8)]
    second = first @ model.T
    savemat(tmp_path / "boat_vpts.mat", {"validation": {"pts": np.r_[2 * first.T, second.T], "model": model}})
    for side in "AB":
        Image.new("RGB", (8, 8)).save(tmp_path / f"boat{side}.png")
    (pair,) = find_sequences(tmp_path).sequences
    assert pair.images == ("boatA.png", "boatB.png")
    np.testing.assert_allclose(pair.marked[:, :2], first[:, :2] - 1, atol=1e-9)
    np.testing.assert_allclose(pair.marked[:, 2:], second[:, :2] / second[:, 2:] - 1, atol=1e-9)
    mapped = np.c_[pair.marked[:, :2], np.ones(8)] @ pair.homographies[0].T
    np.testing.assert_allclose(mapped[:, :2] / mapped[:, 2:], pair.marked[:, 2:], atol=1e-8)
    (tmp_path / "boat_vpts.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(
        ConfigurationError, match=r"boat_vpts.mat: cannot be read as marked points .*get the file again"
    ):
        find_sequences(tmp_path)
