"""Ctrl-C in the middle of HDF5's calls to Python: heeded, and nothing is lost."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from unittest import mock

import pytest

from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.stores.hdf5 import interrupts_deferred
from posfeat_hloc.stores.journal import JournaledFile
from tests.fuzzing.store_readers import CONFIGURATION, features


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_waits_for_the_end_of_the_outer_block() -> None:
    done = []
    before = signal.getsignal(signal.SIGINT)

    def nested() -> None:
        with interrupts_deferred():
            with interrupts_deferred():
                interrupt()
                done.append("inner")
            done.append("outer")

    with pytest.raises(KeyboardInterrupt):
        nested()
    assert done == ["inner", "outer"]
    assert signal.getsignal(signal.SIGINT) is before
    with interrupts_deferred():
        pass


def test_other_threads_are_not_concerned() -> None:
    def work() -> None:
        with interrupts_deferred():
            done.append(1)

    done: list[int] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [1]


@pytest.mark.parametrize("method", ["write", "seek"])
def test_an_interrupt_in_a_call_of_hdf5_is_neither_lost_nor_costs_data(tmp_path: Path, method: str) -> None:
    """Without the delay HDF5 swallows it."""
    real = getattr(JournaledFile, method)
    stored = features()

    def interrupted(self: JournaledFile, *args: object) -> object:
        interrupt()
        return real(self, *args)

    def add(store: FeatureStore) -> None:
        store.write("a.jpg", stored, (100, 100))
        store.commit()

    with FeatureStore(tmp_path / "f.h5", CONFIGURATION) as store:
        store.write("first.jpg", features(), (100, 100))
        store.commit()
        with mock.patch.object(JournaledFile, method, interrupted), pytest.raises(KeyboardInterrupt):
            add(store)
        store.commit()
        if "a.jpg" not in store:
            add(store)
    with FeatureStore(tmp_path / "f.h5") as store:
        assert store.names() == ["a.jpg", "first.jpg"]
        assert (store.read("a.jpg").keypoints == stored.keypoints).all()
