"""MegaDepth in CAPS's layout: cameras, pairs, selection, and every way the files can be wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posfeat_hloc.errors import ConfigurationError, DataError, ImageError
from posfeat_hloc.training.megadepth import CHALLENGE_SCENES, MegaDepthOptions, MegaDepthSource, read_dense_folder
from posfeat_hloc.training.posed_pairs import PosedPair
from tests.training.cameras import epipolar_distances, marked, project, spot, turn

WIDTH, HEIGHT = 160, 120
OPTIONS = MegaDepthOptions(size=(80, 60))
K = np.array([[150.0, 0, 80.0], [0, 152.0, 60.0], [0, 0, 1]])
"""As the files say it: (0.5, 0.5) is the centre of the top-left pixel."""
MARK = np.array([0.2, -0.1, 5.0])
POSES = {
    "a.jpg": (turn(0, 0, 0), np.array([0.0, 0, 0])),
    "b.jpg": (turn(1, -6, 3), np.array([0.6, 0.1, 0.2])),
    "c.jpg": (turn(0, 5, 0), np.array([-0.5, 0, 0])),
    "d.jpg": (turn(0, 0, 95), np.array([0.3, 0.2, 0.1])),
    "e.jpg": (turn(0, 0, 0), np.array([0.0, 0, 0])),
}
PAIRS = [("a.jpg", "b.jpg"), ("b.jpg", "c.jpg"), ("a.jpg", "d.jpg"), ("a.jpg", "e.jpg")]


def camera_line(name: str, rotation: np.ndarray, translation: np.ndarray) -> str:
    numbers = [K[0, 0], K[1, 1], K[0, 2], K[1, 2], *rotation.ravel(), *translation]
    return f"{name} {WIDTH} {HEIGHT} " + " ".join(f"{number:.12g}" for number in numbers)


def write_folder(folder: Path, pairs: list[tuple[str, str]] = PAIRS, cameras: str | None = None) -> Path:
    """One ``aligned`` folder; every image has a bright spot where it sees the same 3D point."""
    (folder / "images").mkdir(parents=True)
    lines = ["# name w h fx fy cx cy R t", ""]
    for name, (rotation, translation) in POSES.items():
        lines.append(camera_line(name, rotation, translation))
        place = project(K, rotation, translation, MARK[None])[0] - 0.5
        Image.fromarray(marked(WIDTH, HEIGHT, place)).save(folder / "images" / name, quality=98)
    (folder / "img_cam.txt").write_text("\n".join(lines) + "\n" if cameras is None else cameras)
    (folder / "pairs.txt").write_text("".join(f"{a} {b}\n" for a, b in pairs))
    return folder


def draws(source: MegaDepthSource, count: int) -> list[PosedPair]:
    rng = np.random.default_rng(0)
    return [source.sample(rng) for _ in range(count)]


def test_points_lie_on_their_epipolar_lines_and_the_pictures_show_them(tmp_path: Path) -> None:
    write_folder(tmp_path / "0001" / "dense0" / "aligned", PAIRS[:1])
    pair = MegaDepthSource(tmp_path, OPTIONS).sample(np.random.default_rng(0))
    points = np.random.default_rng(1).normal([0, 0, 6], 1, (30, 3))
    poses = [POSES["a.jpg"], POSES["b.jpg"]]
    pixels = [project(k, *pose, points) for k, pose in zip((pair.K0, pair.K1), poses, strict=True)]
    assert epipolar_distances(pair, *pixels).max() < 1e-3
    for image, k, pose in zip((pair.image0, pair.image1), (pair.K0, pair.K1), poses, strict=True):
        assert image.shape == (60, 80, 3)
        np.testing.assert_allclose(spot(image), project(k, *pose, MARK[None])[0], atol=0.1)


def test_turned_and_still_pairs_are_left_out(tmp_path: Path) -> None:
    write_folder(tmp_path / "0001" / "dense0" / "aligned")
    source = MegaDepthSource(tmp_path, OPTIONS)
    dense = source.folders[0]
    kept = [(dense.names[i], dense.names[j]) for i, j in dense.pairs]
    assert kept == PAIRS[:2]
    assert len(source) == 2
    assert "1 without baseline" in source.description
    assert "1 turned more than 80 degrees" in source.description
    assert len(MegaDepthSource(tmp_path, MegaDepthOptions(max_rotation=100))) == 3


def test_every_pair_of_all_folders_is_drawn(tmp_path: Path) -> None:
    write_folder(tmp_path / "0001" / "dense0" / "aligned", PAIRS[:2])
    write_folder(tmp_path / "0002" / "dense1" / "aligned", [("c.jpg", "a.jpg")])
    empty = write_folder(tmp_path / "0002" / "dense2" / "aligned", [])
    (empty / "img_cam.txt").write_text("")
    (tmp_path / "0002" / "dense3").mkdir()
    source = MegaDepthSource(tmp_path, OPTIONS)
    assert len(source) == 3
    assert "2 folders without pairs" in source.description
    drawn = {tuple(np.round(pair.t, 6)) for pair in draws(source, 40)}
    assert len(drawn) == 3


def test_at_most_so_many_pairs_of_a_folder_whichever_others_there_are(tmp_path: Path) -> None:
    several = [PAIRS[0], PAIRS[1], ("a.jpg", "c.jpg"), ("c.jpg", "b.jpg")]
    for scene in ("0001", "0002"):
        write_folder(tmp_path / scene / "dense0" / "aligned", several)
    options = MegaDepthOptions(size=(80, 60), max_pairs=2)
    both, one = (
        MegaDepthSource(tmp_path, options),
        MegaDepthSource(tmp_path, MegaDepthOptions(max_pairs=2, scenes=("0002",))),
    )
    assert [len(dense.pairs) for dense in both.folders] == [2, 2]
    np.testing.assert_array_equal(both.folders[1].pairs, one.folders[0].pairs)
    assert "4 beyond the number for a folder" in both.description


def test_scenes_to_use_and_to_leave_out(tmp_path: Path) -> None:
    for scene in ("0001", "0002", "0024"):
        write_folder(tmp_path / scene / "dense0" / "aligned", PAIRS[:1])

    def used(options: MegaDepthOptions) -> list[str]:
        return [dense.folder.parts[-3] for dense in MegaDepthSource(tmp_path, options).folders]

    assert set(CHALLENGE_SCENES) == {"0008", "0021", "0024", "0063", "1589"}
    assert used(OPTIONS) == ["0001", "0002"]
    assert used(MegaDepthOptions(leave_out=())) == ["0001", "0002", "0024"]
    assert used(MegaDepthOptions(scenes=("0002", "0024"))) == ["0002"]
    with pytest.raises(DataError, match="no scenes 0007; it has 0001"):
        used(MegaDepthOptions(scenes=("0007",)))
    with pytest.raises(DataError, match="no pair to train on in 0 scenes"):
        used(MegaDepthOptions(scenes=("0024",)))


GOOD = camera_line("a.jpg", *POSES["a.jpg"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg 160 120 150", "4 words instead of 19"),
        (GOOD.replace(" 150 ", " x "), "could not convert"),
        (GOOD.replace(" 150 ", " nan "), "not finite"),
        (GOOD.replace(" 150 ", " -150 "), "must be positive"),
        (camera_line("a.jpg", 2 * np.eye(3), np.zeros(3)), "R is not a rotation"),
        (camera_line("a.jpg", np.diag([1.0, 1, -1]), np.zeros(3)), "R is not a rotation"),
    ],
)
def test_malformed_cameras(tmp_path: Path, line: str, message: str) -> None:
    write_folder(tmp_path, cameras=f"# comment\n\n{line}\n")
    with pytest.raises(DataError, match=rf"img_cam\.txt, line 3: not the camera of an image \(.*{message}"):
        read_dense_folder(tmp_path)


def test_two_cameras_of_one_image(tmp_path: Path) -> None:
    write_folder(tmp_path, cameras=f"{GOOD}\n{GOOD}\n")
    with pytest.raises(DataError, match=r"line 2.*has a camera already"):
        read_dense_folder(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"), [("a.jpg", "1 words"), ("a.jpg b.jpg 3", "3 words"), ("a.jpg z.jpg", "z.jpg has no camera")]
)
def test_malformed_pairs(tmp_path: Path, line: str, message: str) -> None:
    write_folder(tmp_path)
    (tmp_path / "pairs.txt").write_text(f"a.jpg b.jpg\n{line}\n")
    with pytest.raises(DataError, match=rf"pairs\.txt, line 2: .*{message}"):
        read_dense_folder(tmp_path)


def test_missing_files(tmp_path: Path) -> None:
    aligned = write_folder(tmp_path / "0001" / "dense0" / "aligned")
    (aligned / "images" / "b.jpg").unlink()
    with pytest.raises(ImageError, match=r"b\.jpg: no such file; .*pairs\.txt, line 1 names it"):
        MegaDepthSource(tmp_path, OPTIONS)
    (aligned / "img_cam.txt").unlink()
    with pytest.raises(DataError, match=r"img_cam\.txt: cannot be read"):
        MegaDepthSource(tmp_path, OPTIONS)
    (aligned / "img_cam.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"img_cam\.txt: not a text file"):
        MegaDepthSource(tmp_path, OPTIONS)
    with pytest.raises(DataError, match="no such folder"):
        MegaDepthSource(tmp_path / "none", OPTIONS)
    with pytest.raises(ConfigurationError, match="0 pairs"):
        MegaDepthOptions(max_pairs=0)


def test_a_picture_that_the_intrinsics_do_not_belong_to(tmp_path: Path) -> None:
    aligned = write_folder(tmp_path / "0001" / "dense0" / "aligned", PAIRS[:1])
    Image.fromarray(np.zeros((60, 75, 3), np.uint8)).save(aligned / "images" / "a.jpg")
    with pytest.raises(ImageError, match=r"a\.jpg: is 75x60 pixels, but its principal point"):
        draws(MegaDepthSource(tmp_path, OPTIONS), 1)
