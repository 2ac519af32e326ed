"""The command ``check``: what it prints and returns."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from posfeat_hloc.__main__ import main
from posfeat_hloc.sfm.integrity import check_database
from tests.fuzzing.model_readers import readers
from tests.fuzzing.store_readers import write_features
from tests.stores.test_integrity_check import flip, place_of

Output = pytest.CaptureFixture[str]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    (reader,) = [reader for reader in readers() if reader.name == "COLMAP database"]
    (tmp_path / "d.db").write_bytes(reader.seeds[0]["d.db"])
    return tmp_path / "d.db"


def test_intact_and_damaged(tmp_path: Path, database: Path, capsys: Output) -> None:
    write_features(tmp_path)
    features = tmp_path / "f.h5"
    assert main(["check", str(features), str(database)]) == 0
    assert capsys.readouterr().out == (
        f"{features}: 3 features intact, nothing damaged\n{database}: COLMAP database, intact\n"
    )
    flip(features, place_of(features, "a.jpg/keypoints"))
    assert main(["check", str(features), str(tmp_path / "gone.h5")]) == 1
    assert capsys.readouterr().out == (
        f"{features}: 2 features intact, 1 damaged\n"
        "  damaged: a.jpg: the data are not those that were written (checksum)\n"
        "  --repair keeps the intact groups; the command that wrote the file recomputes the rest\n"
        f"{tmp_path / 'gone.h5'}: no such file\n"
    )
    assert main(["check", str(features), "--repair"]) == 0
    assert "holds the 2 intact groups, f.h5.damaged is the damaged file" in capsys.readouterr().out
    assert main(["check", str(features)]) == 0


def test_a_lost_configuration_is_said(tmp_path: Path, capsys: Output) -> None:
    write_features(tmp_path)
    path = tmp_path / "f.h5"
    data = path.read_bytes().replace(b'{"model"', b'{"mod\xff\xff"')
    path.write_bytes(data)
    assert main(["check", str(path), "--repair"]) == 1
    out = capsys.readouterr().out
    assert "damaged: configuration:" in out
    assert "its configuration is lost" in out


def test_databases(database: Path) -> None:
    assert check_database(database) == {}
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE keypoints SET rows = 7 WHERE image_id = 1")
        connection.execute("UPDATE matches SET data = x'0000000009000000', rows = 1")
        connection.execute("INSERT INTO keypoints (image_id, rows, cols, data) VALUES (9, 0, 2, x'')")
    connection.close()
    damaged = check_database(database)
    assert damaged == {
        "keypoints of db/1 x.jpg": "7 x 2 numbers in 48 bytes",
        "matches of db/1 x.jpg and db/2 x.jpg": "name keypoints that there are not",
        "keypoints of image 9": "there is no such image",
    }
    content = bytearray(database.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    database.write_bytes(content)
    assert list(check_database(database)) == ["the file"]
    database.write_bytes(content[:300])
    assert list(check_database(database)) == ["the file"]
