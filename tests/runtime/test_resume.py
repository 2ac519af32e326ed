from __future__ import annotations

import json
from pathlib import Path

import pytest

from posfeat_hloc.runtime.resume import CacheKey
from posfeat_hloc.runtime.text_files import JsonLines, complete_lines


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


def test_records_come_back_and_a_line_cut_short_does_not(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.jsonl"
    with JsonLines(path) as log:
        assert log.add({"name": "ä\u2028"}) == '{"name": "ä\u2028"}'
        log.add({"name": "b"})
    with path.open("a") as file:
        file.write('{"name": "c')
    assert [json.loads(line)["name"] for line in complete_lines(path)] == ["ä\u2028", "b"]
    with JsonLines(path) as log:
        log.add({"name": "d"})
    assert [json.loads(line)["name"] for line in complete_lines(path)] == ["ä\u2028", "b", "d"]


def test_a_record_is_on_the_disk_before_the_file_is_closed(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "log.jsonl")
    log.add({"step": 1})
    assert complete_lines(tmp_path / "log.jsonl") == ['{"step": 1}']
    log.close()


def test_what_is_no_text_is_no_list_of_records(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(UnicodeDecodeError):
        complete_lines(tmp_path / "log.jsonl")
