"""What ``connect`` says of addresses that cannot be used; Ray itself is not needed."""

import socket
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import sfm
from posfeat_hloc.cli.main import parsed
from posfeat_hloc.cluster import connect
from posfeat_hloc.cluster.cluster import cut
from posfeat_hloc.errors import ClusterError
from tests.rendering import write_scene


@pytest.fixture
def ray(monkeypatch):
    """A stand-in whose ``init`` must not be reached."""
    module = SimpleNamespace(is_initialized=lambda: False, init=lambda **_: pytest.fail("waited for Ray"))
    monkeypatch.setitem(sys.modules, "ray", module)
    return module


@pytest.fixture
def listener():
    """Serves one connection at ``listener(answer)``; returns its port."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve(answer):
        def run():
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(answer)

        threading.Thread(target=run, daemon=True).start()
        return server.getsockname()[1]

    yield serve
    server.close()


def test_no_address_is_no_cluster():
    assert connect(None) is None


def test_without_ray_the_extra_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    write_scene(tmp_path / "photos", 2)
    assert sfm.main(["--images", str(tmp_path / "photos"), "--output", str(tmp_path / "out"), "--ray", "local"]) == 1
    assert 'pip install "posfeat-hloc[ray]"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nobody_listens(ray):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    start = time.perf_counter()
    with pytest.raises(ClusterError, match=f"127.0.0.1:{port}: cannot be reached .*ray start --head --port {port}"):
        connect(f"127.0.0.1:{port}")
    assert time.perf_counter() - start < 3


def test_something_else_listens(ray, listener):
    port = listener(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ClusterError, match=f":{port}: no Ray cluster answers there"):
        connect(f"127.0.0.1:{port}")


def test_silence_is_not_waited_for(ray, monkeypatch):
    monkeypatch.setattr("posfeat_hloc.cluster.cluster._SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(ClusterError, match="no answer"):
        connect(f"127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize("address", ["nonsense", "host:", "host:http", ":6379", "host:70000", "local:0", ""])
def test_addresses_of_no_known_form(ray, address):
    with pytest.raises(ClusterError, match=r"not an address; give local, local:N"):
        connect(address)


def test_a_server_of_grpc_is_handed_to_ray(ray, listener):
    port = listener(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))  # an empty SETTINGS frame
    given = {}
    ray.init = lambda **options: given.update(options)
    ray.remote = lambda **_: lambda function: function
    assert connect(f"127.0.0.1:{port}") is not None
    assert given["address"] == f"127.0.0.1:{port}"


def test_what_ray_says_is_passed_on_in_a_line(ray):
    def init(**_):
        raise ConnectionError("Could not find any running Ray instance.\nMore words")

    ray.init = init
    with pytest.raises(ClusterError, match=r"ray=auto: .*\(Could not find any running Ray instance\.\)") as caught:
        connect("auto")
    assert "\n" not in str(caught.value)


def test_a_process_in_a_cluster_stays_in_it(ray):
    ray.is_initialized = lambda: True
    ray.remote = lambda **_: lambda function: function
    assert connect("nonsense") is not None


def test_localize_has_the_option_too():
    assert parsed(["localize", "--map", "m", "--queries", "q", "--ray", "auto"])[1].ray == "auto"


@given(st.integers(0, 300), st.integers(0, 40), st.integers(1, 64))
def test_shards_hold_everything_in_order(count, slots, largest):
    parts = cut(range(count), slots, largest)
    assert [item for part in parts for item in part] == list(range(count))
    assert all(1 <= len(part) <= largest for part in parts)


def test_every_slot_gets_several_shards_and_large_collections_large_ones():
    assert [len(part) for part in cut(range(80), 5, 16)] == [4] * 20
    assert {len(part) for part in cut(range(16_000), 5, 16)} == {16}
    assert [len(part) for part in cut(range(3), 5, 16)] == [1, 1, 1]
