"""Records that survive a kill, one a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posfeat_hloc.runtime.json_lines import JsonLines, complete_lines


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
