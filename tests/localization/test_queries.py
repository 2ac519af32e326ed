"""Lists of queries: every camera model, names with spaces, errors with file and line."""

from __future__ import annotations

import string

import numpy as np
import pycolmap
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.localization.queries import guess_camera, queries_of_folder, read_queries, read_query_lists

MODELS = {
    name: list(pycolmap.Camera.create_from_model_name(1, name, 500.0, 640, 480).params)
    for name in pycolmap.CameraModelId.__members__
    if name != "INVALID"
}
WORD = st.text(string.ascii_letters + string.digits + "/._-äß", min_size=1).filter(lambda word: word[0] != "#")


def write(folder, text):
    path = folder / "queries.txt"
    path.write_text(text, encoding="utf-8")
    return path


@given(st.data())
def test_what_is_written_is_read(tmp_path_factory, data):
    words = data.draw(st.lists(WORD | st.sampled_from([*MODELS, "12", "1e3"]), min_size=1, max_size=4))
    name = data.draw(st.sampled_from([" ", "  "])).join(words)
    model = data.draw(st.sampled_from(sorted(MODELS)))
    width, height = data.draw(st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)))
    number = st.floats(1e-3, 1e5) | st.integers(1, 5000)
    params = data.draw(st.lists(number, min_size=len(MODELS[model]), max_size=len(MODELS[model])))
    text = f"\n# a comment\n {name}\t{model} {width}  {height} {' '.join(map(str, params))} \n"
    (query,) = read_queries(write(tmp_path_factory.mktemp("list"), text))
    assert query.name == name
    assert query.camera.model_name == model
    assert (query.camera.width, query.camera.height) == (width, height)
    assert query.camera.params.tolist() == [float(p) for p in params]
    assert query.calibrated
    assert query.camera.has_prior_focal_length


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg", "has no intrinsics"),
        ("a b.jpg", "'a b.jpg' has no intrinsics"),
        ("PINHOLE 640 480 1 1 1 1", "has no intrinsics"),
        ("a.jpg PINEHOLE 640 480 1 1 1 1", "camera model 'PINEHOLE' does not exist"),
        ("a.jpg INVALID 640 480 1 1 1 1", "camera model 'INVALID' does not exist"),
        ("a.jpg PINHOLE 640 480 1 1 1", r"PINHOLE has 4 parameters \(fx, fy, cx, cy\), not 3"),
        ("a.jpg SIMPLE_PINHOLE 640 480 1 1 1 0", r"SIMPLE_PINHOLE has 3 parameters \(f, cx, cy\), not 4"),
        ("a.jpg PINHOLE 640", "two positive whole numbers"),
        ("a.jpg PINHOLE 640.5 480 1 1 1 1", "two positive whole numbers"),
        ("a.jpg PINHOLE 0 480 1 1 1 1", "two positive whole numbers"),
        ("a.jpg PINHOLE 640 480 nan 1 1 1", "not a finite number"),
        ("a.jpg PINHOLE 640 480 500 -500 1 1", "focal length must be positive"),
        ("ok.jpg SIMPLE_PINHOLE 6 4 9 3 2", r"'ok.jpg' is already in .*, line 2"),
    ],
)
def test_lines_of_another_form_are_named(tmp_path, line, message):
    path = write(tmp_path, f"# two lines\nok.jpg SIMPLE_PINHOLE 6 4 9 3 2\n{line}\n")
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_queries(path)
    assert str(caught.value).startswith(f"{path}, line 3: ")


def test_lists_with_and_without_intrinsics_are_read_together(tmp_path):
    (tmp_path / "day.txt").write_text("a b.jpg SIMPLE_PINHOLE 6 4 9 3 2\nday/2.jpg\n# a comment\n")
    (tmp_path / "night.txt").write_text("night 3.jpg\n")
    queries, names = read_query_lists([tmp_path / "day.txt", tmp_path / "night.txt"])
    assert [query.name for query in queries] == ["a b.jpg"]
    assert names == ["day/2.jpg", "night 3.jpg"]
    (tmp_path / "night.txt").write_text("day/2.jpg\n")
    with pytest.raises(ConfigurationError, match=r"night.txt, line 1: 'day/2.jpg' is already in .*day.txt, line 2"):
        read_query_lists([tmp_path / "day.txt", tmp_path / "night.txt"])


def test_files_without_queries_are_named(tmp_path):
    with pytest.raises(ConfigurationError, match="holds no queries"):
        read_queries(write(tmp_path, "\n# nothing\n"))
    with pytest.raises(ConfigurationError, match=r"nowhere\.txt"):
        read_queries(tmp_path / "nowhere.txt")
    (tmp_path / "image.txt").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ConfigurationError, match=r"image\.txt: cannot be read"):
        read_queries(tmp_path / "image.txt")


def test_focal_lengths_come_from_exif_or_are_guessed(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 35  # focal length in 35 mm film
    (tmp_path / "a").mkdir()
    Image.fromarray(np.zeros((60, 90, 3), np.uint8)).save(tmp_path / "a/with.jpg", exif=exif)
    Image.fromarray(np.zeros((80, 50), np.uint8)).save(tmp_path / "without.png")
    queries = {query.name: query for query in queries_of_folder(tmp_path)}
    assert set(queries) == {"a/with.jpg", "without.png"}
    known, guessed = queries["a/with.jpg"], queries["without.png"]
    assert known.camera.has_prior_focal_length
    diagonal = np.hypot(36, 24)
    assert np.isclose(known.camera.mean_focal_length(), 35 / diagonal * np.hypot(90, 60), rtol=0.05)
    assert not guessed.camera.has_prior_focal_length
    assert guessed.camera.mean_focal_length() == 1.2 * 80
    assert (guessed.camera.width, guessed.camera.height) == (50, 80)
    assert not known.calibrated
    assert not guessed.calibrated


def test_a_guessed_camera_has_its_centre_in_the_middle():
    camera = guess_camera((640, 480))
    assert camera.mean_focal_length() == 768
    assert (camera.principal_point_x, camera.principal_point_y) == (320, 240)
    assert not camera.has_prior_focal_length
    assert guess_camera((640, 480), 500.0).has_prior_focal_length
    with pytest.raises(ConfigurationError, match="focal length"):
        guess_camera((640, 480), -1.0)


def test_names_that_begin_with_a_hash_are_those_of_images(tmp_path):
    (tmp_path / "#1.jpg").touch()
    (tmp_path / "# 2 b.jpg").touch()
    text = "# name MODEL width height params\n#1.jpg SIMPLE_PINHOLE 6 4 9 3 2\n# 2 b.jpg\n#gone.jpg\n"
    path = write(tmp_path, text + "#away.jpg SIMPLE_PINHOLE 6 4 9 3 2\nlast.jpg\n")
    queries, names = read_query_lists([path], tmp_path)
    assert [query.name for query in queries] == ["#1.jpg"]
    assert names == ["# 2 b.jpg", "last.jpg"]
    assert [query.name for query in read_query_lists([path])[0]] == []  # no folder says which are names
