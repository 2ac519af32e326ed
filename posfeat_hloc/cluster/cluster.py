"""A Ray cluster, found or started within seconds: tasks in bounded number, results in order, lost tasks again."""

from __future__ import annotations

import os
import socket
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import torch

import posfeat_hloc
from posfeat_hloc.cluster import shards
from posfeat_hloc.errors import ClusterError, Option, PosfeatError
from posfeat_hloc.extractors.extraction import Extracted, Skipped
from posfeat_hloc.images.loader import ImageInputs
from posfeat_hloc.match_features import Batch, Descriptors, Matched
from posfeat_hloc.matchers.descriptor_cache import CACHE_BYTES

Shard = TypeVar("Shard")
Result = TypeVar("Result")

RETRIES = 3
"""How often a task is started again whose process or machine died."""
_AHEAD = 2  # tasks in flight for each that can run: enough to keep all busy, and what bounds memory
_PATIENCE = 20.0  # seconds without a result before asking whether any machine is left
_IMAGES, _PAIRS = 16, 64  # of the largest shard


class Cluster:
    """A connection to a running Ray; see :func:`posfeat_hloc.cluster.connect`.

    Tasks take a GPU each where the cluster has some and the device is not ``cpu``, otherwise a core each.

    Args:
        ray: the module, initialised.
    """

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._task = ray.remote(max_retries=RETRIES)(_run)

    def slots(self, gpu: bool = False) -> int:
        """Tasks that can run at the same time."""
        return int(self._ray.cluster_resources().get("GPU" if gpu else "CPU", 0))

    def has_gpu_for(self, device: str) -> bool:
        """Whether tasks for this torch device take a GPU."""
        return device != "cpu" and self.slots(gpu=True) > 0

    def submit(self, function: Callable[..., Result], *args: Any, gpu: bool = False) -> Pending[Result]:
        """Start ``function(*args)`` somewhere; all of it must be picklable."""
        task = self._task.options(num_cpus=1, num_gpus=1 if gpu else 0)
        return Pending(self, task.remote(versions(), function, *args), gpu)

    def map(
        self, function: Callable[[Shard], Result], given: Iterable[Shard], gpu: bool = False
    ) -> Generator[Result, None, None]:
        """``function`` of each shard, in their order; shards are taken from ``given`` as tasks finish.

        Raises:
            ClusterError: see :meth:`Pending.result`.
        """
        waiting: deque[Pending[Result]] = deque()
        for shard in given:
            waiting.append(self.submit(function, shard, gpu=gpu))
            if len(waiting) >= _AHEAD * max(1, self.slots(gpu)):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def extract(
        self,
        conf: dict[str, Any],
        inputs: ImageInputs,
        names: Sequence[str],
        device: str,
        weights_sha256: str,
        limit: int | None = None,
    ) -> Generator[list[Extracted | Skipped], None, None]:
        """See :meth:`posfeat_hloc.extractors.extraction.ExtractionExecutor.extract`; workers extract."""
        gpu = self.has_gpu_for(device)
        work = partial(shards.extract_shard, conf, device, weights_sha256, inputs, limit)
        sizes = cut(names, self.slots(gpu), _IMAGES)
        return self.map(work, ([shards.read_file(inputs, name) for name in part] for part in sizes), gpu)

    def pairs_in_a_task(self, count: int, device: str) -> int:
        """Of ``count`` pairs in all."""
        return shard_size(count, self.slots(self.has_gpu_for(device)), _PAIRS)

    def match(self, model: dict[str, Any], batches: Iterable[Batch], device: str) -> Generator[Matched, None, None]:
        """As :func:`posfeat_hloc.match_features.matched`, on the cluster; a batch is a task."""
        sent = _Sent(self._ray)
        given = (
            [(pair, sent.reference(pair[0], 0, first), sent.reference(pair[1], 1, second))
             for pair, first, second in batch] for batch in batches
        )  # fmt: skip
        for found in self.map(partial(shards.match_shard, model, device), given, self.has_gpu_for(device)):
            yield from found

    def close(self) -> None:
        """Leave the cluster; one that was started by ``local`` ends."""
        self._ray.shutdown()


class Pending(Generic[Result]):
    """A task on its way."""

    def __init__(self, cluster: Cluster, reference: Any, gpu: bool) -> None:
        self._cluster, self._reference, self._gpu = cluster, reference, gpu

    def result(self) -> Result:
        """Wait for it.

        Raises:
            PosfeatError: as the function raised it.
            ClusterError: no machine is left, the task died more than ``RETRIES`` times, or a machine has another
                version of this package, or lacks it.
        """
        ray = self._cluster._ray
        while True:
            try:
                return ray.get(self._reference, timeout=_PATIENCE)  # type: ignore[no-any-return]
            except ray.exceptions.GetTimeoutError as error:
                if self._cluster.slots(self._gpu) == 0:
                    raise ClusterError(
                        Option("ray"), ": the cluster has no machines any more; see `ray status`"
                    ) from error
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, PosfeatError):
                    raise error.cause from None
                if isinstance(error.cause, ImportError):
                    raise ClusterError(
                        Option("ray"), f": a package is missing on a worker ({error.cause}); {_INSTALL}"
                    ) from error
                raise
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[0]
                raise ClusterError(
                    Option("ray"),
                    f": a task failed {RETRIES + 1} times ({reason}); out of memory? give Ray fewer CPUs per "
                    "machine (`ray start --num-cpus`, local:N), or use smaller images",
                ) from error


_INSTALL = "install the same versions on all machines"


def versions() -> dict[str, str]:
    """Of all that decides the numbers of a result."""
    return {"posfeat_hloc": posfeat_hloc.__version__, "torch": torch.__version__}


def shard_size(count: int, slots: int, largest: int) -> int:
    """Of equal shards that are small enough for every task slot to get some of them."""
    return max(1, min(largest, count // (4 * max(1, slots))))


def cut(items: Sequence[Shard], slots: int, largest: int) -> list[Sequence[Shard]]:
    """Shards of equal size, see :func:`shard_size`."""
    size = shard_size(len(items), slots, largest)
    return [items[start : start + size] for start in range(0, len(items), size)]


def _run(expected: dict[str, str], function: Callable[..., Result], *args: Any) -> Result:
    """What a worker does."""
    if different := [f"{name} {here}" for name, here in versions().items() if here != expected[name]]:
        wanted = ", ".join(f"{name} {there}" for name, there in expected.items())
        raise ClusterError(
            Option("ray"), f": a worker has {', '.join(different)}, but this machine {wanted}; {_INSTALL}"
        )
    return function(*args)


class _Sent:
    """Arrays in Ray's object store, each put there once while they fit into ``CACHE_BYTES``."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._size = 0
        self._references: OrderedDict[tuple[str, int], tuple[Any, int]] = OrderedDict()

    def reference(self, name: str, side: int, array: Descriptors) -> Any:
        if (name, side) not in self._references:
            self._references[name, side] = self._ray.put(array), array.nbytes
            self._size += array.nbytes
        self._references.move_to_end((name, side))
        while self._size > CACHE_BYTES and len(self._references) > 2:
            self._size -= self._references.popitem(last=False)[1][1]
        return self._references[name, side][0]


FORMS = "local, local:N (N processes on this machine), auto (the cluster this machine is in) or HOST:PORT"
_SECONDS = 5.0  # for an answer
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # RFC 9113, 3.4
_SETTINGS = 4  # type of the frame that a server of HTTP/2, so of gRPC, must answer with


def connect(address: str | None) -> Cluster | None:
    """The cluster at an address; None without an address. A process that is connected stays connected.

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
            Option("ray", f"{host}:{port}"), ": no Ray cluster answers there; give the port of its head node (6379)"
        )
