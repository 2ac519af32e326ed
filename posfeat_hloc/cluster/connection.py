"""Find a Ray cluster, or start one on this machine; what cannot be reached is said within seconds."""

from __future__ import annotations

import os
import socket
from typing import Any

from posfeat_hloc.cluster.cluster import Cluster
from posfeat_hloc.errors import ClusterError, Option

FORMS = "local, local:N (N processes on this machine), auto (the cluster this machine is in) or HOST:PORT"
_SECONDS = 5.0  # for an answer
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # RFC 9113, 3.4
_SETTINGS = 4  # type of the frame that a server of HTTP/2, so of gRPC, must answer with


def connect(address: str | None) -> Cluster | None:
    """The cluster at an address; None where none is asked for. A process that is in one stays in it.

    Args:
        address: ``local`` starts a cluster on this machine, which ends with this process, with a worker for each core;
            ``local:4`` with four. ``auto`` is the cluster that this machine is in (``ray start``), ``HOST:PORT`` that
            of a head node.

    Raises:
        ClusterError: Ray is not installed, the address has another form, or nobody answers there.
    """
    if address is None:
        return None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its makers
    try:
        import ray
    except ImportError as error:
        raise ClusterError(f'--ray needs Ray ({error}); pip install "posfeat-hloc[ray]"') from error
    if ray.is_initialized():
        return Cluster(ray)
    options = _options(address)
    try:
        ray.init(**options, log_to_driver=False, logging_level="ERROR")
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ClusterError(
            Option("ray", address), f": cannot be used ({reason}); is it running? see `ray status`"
        ) from error
    return Cluster(ray)


def _options(address: str) -> dict[str, Any]:
    """Arguments of ``ray.init``; an address that does not answer makes it wait for minutes, so it is tried first."""
    kind, _, port = address.rpartition(":")
    if address == "local":
        return {"address": "local", "include_dashboard": False}
    if address == "auto":
        return {"address": "auto"}
    if not kind or not port.isdigit() or not 0 < int(port) < 65536:
        raise ClusterError(Option("ray", address), f": not an address; give {FORMS}")
    if kind == "local":
        return {"address": "local", "include_dashboard": False, "num_cpus": int(port)}
    _check_reachable(kind, int(port))
    return {"address": address}


def _check_reachable(host: str, port: int) -> None:
    """Raises ClusterError where nobody listens, or not by gRPC, which is what Ray speaks."""
    try:
        with socket.create_connection((host, port), _SECONDS) as connection, connection.makefile("rb") as answer:
            connection.sendall(_HTTP2_PREFACE)
            frame = answer.read(9)
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise ClusterError(
            Option("ray", f"{host}:{port}"),
            f": cannot be reached ({reason}); start Ray there by `ray start --head --port {port}`",
        ) from error
    if len(frame) < 9 or frame[3] != _SETTINGS:
        raise ClusterError(
            Option("ray", f"{host}:{port}"), ": what answers there is not Ray; give the port of its head node (6379)"
        )
