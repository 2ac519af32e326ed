"""The log of queries as kills leave it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.localization.results_log import Localized, Log


def line(name: str) -> bytes:
    return (json.dumps({**Localized(name, reason="no pair").as_dict(), "key": "k"}, ensure_ascii=False) + "\n").encode()


def test_a_line_that_was_cut_anywhere_is_dropped(tmp_path: Path) -> None:
    """In the middle of a letter, too."""
    first, second = line("a.jpg"), line("größe.jpg")
    path = tmp_path / "log.jsonl"
    for length in range(len(second)):
        path.write_bytes(first + second[:length])
        with Log(path) as log:
            assert log.find("a.jpg", "k") is not None
            assert log.find("größe.jpg", "k") is None
            log.add("k", Localized("größe.jpg", reason="no pair"))
        assert path.read_bytes() == first + second
        path.write_bytes(second[:length])
        with Log(path) as log:
            assert log.find("größe.jpg", "k") is None
        assert path.read_bytes() == b""


def test_lines_that_are_no_records_are_named(tmp_path: Path) -> None:
    for damaged in (b"{}\n", b"\xff\xfe\n", b"[1]\n", b"\n"):
        (tmp_path / "log.jsonl").write_bytes(line("a.jpg") + damaged)
        with pytest.raises(ConfigurationError, match=r"log\.jsonl"):
            Log(tmp_path / "log.jsonl")
