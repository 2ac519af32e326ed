import pytest

from posfeat_hloc.runtime.resume import CacheKey


def make(path, inputs):
    with CacheKey(path, inputs) as made:
        if not made.is_valid:
            path.write_text(str(inputs))
    return made.is_valid


def test_a_file_is_made_once_for_the_same_inputs(tmp_path):
    path = tmp_path / "a.txt"
    assert [make(path, {"x": [1, 2]}), make(path, {"x": [1, 2]}), make(path, {"x": [2, 1]})] == [False, True, False]
    assert path.read_text() == "{'x': [2, 1]}"
    path.unlink()
    assert not make(path, {"x": [2, 1]})


def test_what_failed_is_made_again(tmp_path):
    path = tmp_path / "a.txt"
    make(path, 1)
    with pytest.raises(IsADirectoryError), CacheKey(path, 2):
        path.parent.write_text("the disk is full")
    assert not CacheKey(path, 2).is_valid
    assert not CacheKey(path, 1).is_valid  # what it was made from before is not there any more
