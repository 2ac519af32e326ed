"""A few of the rounds of `python -m tests.crash`, and disks and folders that refuse."""

from __future__ import annotations

import random
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.runtime.output import only_writer
from tests.crash.comparison import differences
from tests.crash.harness import Count, Workshop, run


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"), ["sfm"], retrieval=False)


@pytest.mark.parametrize("stage", [0, 1, 2, 3], ids=["extract", "match", "verify", "map"])
def test_a_stopped_stage_goes_on_and_ends_like_an_undisturbed_one(workshop: Workshop, stage: int) -> None:
    count = Count()
    workshop.round(workshop.stages[stage], random.Random(stage), count)
    assert count.wrong == []
    assert count.survived == 1


def test_a_difference_is_seen(workshop: Workshop, tmp_path: Path) -> None:
    finished = workshop.folder / "sfm"
    shutil.copytree(finished, tmp_path / "out")
    assert differences(tmp_path / "out", finished) == []
    (tmp_path / "out" / "pairs.txt").write_text("a b\n")
    (tmp_path / "out" / "features.h5.journal").touch()
    (tmp_path / "out" / "sparse" / "0" / "points3D.bin").write_bytes(bytes(8))
    assert differences(tmp_path / "out", finished) == [
        "features.h5.journal was left behind", "pairs.txt differs", "sparse differs",
    ]  # fmt: skip


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of a few bytes in ``folder``."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"a small disk needs the right to mount: {made.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount")
@pytest.mark.parametrize("part", [0.3, 0.85, 1.2], ids=["features", "matches", "database"])
def test_a_full_disk_ends_with_a_message_and_with_space_the_run_goes_on(
    workshop: Workshop, tmp_path: Path, part: float
) -> None:
    disk = tmp_path / "disk"
    finished = workshop.folder / "sfm"
    with small_disk(disk, int(part * (finished / "features.h5").stat().st_size)):
        ended = run(lambda: workshop.sfm(disk / "out"), workshop.log)
        assert ended.code == 1, ended.printed
        assert "error: " in ended.printed
        assert "Traceback" not in ended.printed
        subprocess.run(["mount", "-o", "remount,size=100M", "none", disk], check=True)
        ended = run(lambda: workshop.sfm(disk / "out"), workshop.log)
        assert ended.code == 0, ended.printed
        assert differences(disk / "out", finished) == []


def limited(action: Callable[[], int], size: int) -> int:
    """Run with a limit on the size of files, past which writing fails as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    return action()


def test_a_limit_in_each_stage_ends_with_a_message(workshop: Workshop) -> None:
    """COLMAP does not notice that a model cannot be written; a cut model must not count as made."""
    for number, name in enumerate(("features.h5", "matches.h5", "database.db", "sparse/0/images.bin")):
        stage = workshop.stages[number]
        output = workshop.begin(stage)
        size = int(0.6 * (stage.finished / name).stat().st_size)
        ended = run(lambda output=output, size=size: limited(lambda: workshop.sfm(output), size), workshop.log)
        assert ended.code == 1, (name, ended.printed)
        assert "error: " in ended.printed
        assert "Traceback" not in ended.printed
        assert run(lambda output=output: workshop.sfm(output), workshop.log).code == 0
        assert differences(output, stage.finished) == []


@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount")
def test_a_read_only_disk_ends_with_a_message(workshop: Workshop, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, 10**6):
        subprocess.run(["mount", "-o", "remount,ro", "none", disk], check=True)
        ended = run(lambda: workshop.sfm(disk / "out"), workshop.log)
    assert ended.code == 1
    assert ended.printed.startswith(f"error: {disk / 'out'}: cannot be used as output folder (Read-only file system)")


def test_a_second_run_in_the_same_folder_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    with only_writer(tmp_path / "out"):
        for command in (workshop.sfm, workshop.train):
            ended = run(lambda command=command: command(tmp_path / "out"), workshop.log)
            assert ended.code == 1
            assert f"error: {tmp_path / 'out'}: another run is writing here; wait for it" in ended.printed
        with pytest.raises(ConfigurationError, match="another run"), only_writer(tmp_path / "out"):
            pass
        with only_writer(tmp_path / "other"):
            pass
    with only_writer(tmp_path / "out"):
        pass


def test_clocks_that_jump_change_nothing(workshop: Workshop) -> None:
    """Photographs from the future, and a clock that was set back by ten years between two runs."""
    import os
    import time

    stage = workshop.stages[0]
    output = workshop.begin(stage)
    photographs = sorted(workshop.photos.iterdir())
    before = [path.stat().st_mtime_ns for path in photographs]
    future = time.time_ns() + 10**18
    try:
        for path in photographs:
            os.utime(path, ns=(future, future))
        assert run(lambda: workshop.sfm(output), workshop.log).code == 0
        with mock.patch.object(time, "time", return_value=time.time() - 3e8):
            ended = run(lambda: workshop.sfm(output), workshop.log)
        assert "extract kept, match kept, verify kept, map kept" in ended.printed
    finally:
        for path, moment in zip(photographs, before, strict=True):
            os.utime(path, ns=(moment, moment))
