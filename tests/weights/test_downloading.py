"""Downloads: whole, continued, from servers that break off, know no ranges, or have another file by now."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest

from posfeat_hloc import weights
from posfeat_hloc.errors import WeightsError
from posfeat_hloc.weights import downloading
from posfeat_hloc.weights.downloading import ATTEMPTS, download_file, one_at_a_time
from tests.web_server import Server, web_server

CONTENT = random.Random(0).randbytes(300_000)


@pytest.fixture
def server() -> Iterator[Server]:
    with web_server(CONTENT) as running:
        yield running


def fetch(server: Server, path: Path) -> bool:
    return download_file(server.url(), path, progress=False)


def partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def test_a_whole_file_into_a_new_folder(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "file.bin"
    assert download_file(server.url(), path) is False
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert server.asked == [None]
    last = capsys.readouterr().err.split("\r")[-1]
    assert "300k/300k B" in last
    assert len(last.strip("\n")) < 80


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("have", [1, 65_536, 299_999])
def test_what_has_arrived_before_is_kept(server: Server, tmp_path: Path, ranges: bool, have: int) -> None:
    server.ranges = ranges
    path = tmp_path / "file.bin"
    partial(path).write_bytes(CONTENT[:have])
    assert fetch(server, path) is True
    assert path.read_bytes() == CONTENT
    assert server.asked == [f"bytes={have}-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_breaks_is_opened_again(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.ranges, server.breaks = ranges, [100_000, 50_000]
    assert fetch(server, tmp_path / "file.bin") is False
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", "bytes=150000-" if ranges else "bytes=50000-"]


def test_after_many_breaks_the_next_call_goes_on(server: Server, tmp_path: Path) -> None:
    server.breaks = [1000] * ATTEMPTS
    path = tmp_path / "file.bin"
    with pytest.raises(ConnectionError, match=r"lost 4 times, 4,000 bytes were received; the next attempt resumes"):
        fetch(server, path)
    assert not path.exists()
    assert partial(path).read_bytes() == CONTENT[: 1000 * ATTEMPTS]
    assert fetch(server, path) is True
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("have", [len(CONTENT), len(CONTENT) + 7])
def test_more_than_the_file_has(server: Server, tmp_path: Path, have: int) -> None:
    path = tmp_path / "file.bin"
    partial(path).write_bytes(bytes(have))
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [f"bytes={have}-", None]


def test_a_server_without_ranges_and_a_longer_beginning(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    path = tmp_path / "file.bin"
    partial(path).write_bytes(bytes(len(CONTENT) + 7))
    fetch(server, path)
    assert path.read_bytes() == CONTENT


def test_other_errors_are_not_tried_again(server: Server, tmp_path: Path) -> None:
    with pytest.raises(HTTPError, match="404"):
        download_file(server.url("gone"), tmp_path / "file.bin", progress=False)
    assert server.asked == [None]
    with pytest.raises(URLError, match="refused"):
        download_file("http://127.0.0.1:9/file.bin", tmp_path / "file.bin", progress=False)
    assert not (tmp_path / "file.bin").exists()


def test_a_silent_server_counts_as_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ConnectionError, match="timed out"):
        download_file(f"http://127.0.0.1:{silent.getsockname()[1]}/x", tmp_path / "x", progress=False)


def test_one_at_a_time(tmp_path: Path) -> None:
    order = []

    def second() -> None:
        with one_at_a_time(tmp_path):
            order.append("second")

    thread = threading.Thread(target=second)
    with one_at_a_time(tmp_path):
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


@pytest.fixture
def published(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Public weights ``hardnet++`` on the server; the path of their local copy."""
    (tmp_path / "truth").write_bytes(CONTENT)
    entry = weights.Public(server.url("HardNet%2B%2B.pth"), weights.git_blob(tmp_path / "truth"), "MIT licence")
    monkeypatch.setitem(weights.PUBLIC, "hardnet++", entry)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "posfeat_hloc" / "HardNet++.pth"


def test_weights_go_on_from_a_part(server: Server, published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published.parent.mkdir(parents=True)
    partial(published).write_bytes(CONTENT[:1234])
    assert weights.download("hardnet++") == published
    assert server.asked == ["bytes=1234-"]
    assert "fetching the weights 'hardnet++' (MIT licence)" in capsys.readouterr().err
    assert weights.download("hardnet++").read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_a_part_of_another_file_is_given_up(server: Server, published: Path) -> None:
    published.parent.mkdir(parents=True)
    partial(published).write_bytes(b"x" * 1234)
    assert weights.download("hardnet++").read_bytes() == CONTENT
    assert server.asked == ["bytes=1234-", None]


def test_a_wrong_hash_leaves_nothing(server: Server, published: Path) -> None:
    server.content = CONTENT + b"x"
    with pytest.raises(WeightsError, match="is not the published file"):
        weights.download("hardnet++")
    assert not list(published.parent.iterdir())
    assert server.asked == [None]


def test_a_broken_download_of_weights_says_how_to_go_on(server: Server, published: Path) -> None:
    server.breaks = [10] * ATTEMPTS
    with pytest.raises(
        WeightsError, match=r"40 bytes were received; the next attempt resumes.*weights get hardnet\+\+ --from FILE"
    ):
        weights.download("hardnet++")
    assert weights.download("hardnet++").read_bytes() == CONTENT
