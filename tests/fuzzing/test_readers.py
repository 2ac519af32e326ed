"""A few damaged inputs for every reader; `python -m tests.fuzzing` tries as many as one likes."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posfeat_hloc import weights
from posfeat_hloc.errors import ConfigurationError, PosfeatError, WeightsError
from posfeat_hloc.evaluation.posed_lists import read_posed_pairs
from posfeat_hloc.training.loop import RunFolder
from tests.fuzzing.isolated import outcome_of, try_inputs, write_input
from tests.fuzzing.readers import Reader, all_readers
from tests.fuzzing.text_readers import readers as text_readers

pytestmark = pytest.mark.fuzz

READERS = all_readers()
TEXTS = {reader.name: reader for reader in text_readers() if reader.name not in ("scene_info", "summary of a map")}


@pytest.mark.parametrize("name", READERS)
def test_valid_files_are_read(name: str, tmp_path: Path) -> None:
    for number, files in enumerate(READERS[name].seeds):
        folder = tmp_path / str(number)
        for file, content in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        if name not in ("weights", "checkpoint"):  # whose tensors are of no network
            assert outcome_of(READERS[name], folder) == "read"


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused_with_a_message(name: str, tmp_path: Path) -> None:
    found = try_inputs(READERS[name], range(12), tmp_path / "input", limit=60)
    assert found.tried == 12
    assert found.wrong == {}


@settings(max_examples=10)
@given(name=st.sampled_from(sorted(TEXTS)), data=st.data())
def test_any_text_is_read_or_refused_with_a_message(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Hypothesis shrinks what it finds; words of valid files in any order, and any characters."""
    (files,) = TEXTS[name].seeds
    folder = tmp_path_factory.mktemp("text")
    for file, content in files.items():
        words = [word.decode() for word in content.replace(b"\n", b" \n ").split(b" ")]
        text = st.lists(st.sampled_from(words) | st.text(max_size=5) | st.floats().map(str), max_size=60).map(" ".join)
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(data.draw(text), encoding="utf-8", errors="surrogatepass")
    assert outcome_of(TEXTS[name], folder) in ("read", "refused")


def test_what_goes_wrong_is_found(tmp_path: Path) -> None:
    """The harness itself: an exception, an endless loop, the end of the process, too much memory."""

    def bad(folder: Path) -> None:
        number = int((folder / "number").read_text() or 0)
        if number == 1:
            raise ZeroDivisionError("a mistake")
        if number == 2:
            while True:
                pass
        if number == 3:
            os.abort()
        if number == 4:
            _ = np.ones(1 << 40)
        raise PosfeatError("said")

    for number, outcome in enumerate(("", "ZeroDivisionError in", "hangs for more", "dies by SIGABRT", "MemoryError")):
        reader = Reader(f"bad {number}", [{"number": str(number).encode(), "other": b"x"}], bad, beside=("number",))
        found = try_inputs(reader, range(2), tmp_path / "input", limit=2)
        assert found.tried == 2
        assert found.refused == (0 if outcome else 2)
        assert [what.startswith(outcome) for what in found.wrong] == ([True] if outcome else [])


def test_a_number_gives_the_same_input_again(tmp_path: Path) -> None:
    reader = READERS["matches"]
    contents = []
    for number in (7, 8, 7):
        write_input(reader, number, tmp_path / "input")
        contents.append((tmp_path / "input" / "m.h5").read_bytes())
    assert contents[0] == contents[2] != contents[1]
    assert contents[0] != reader.seeds[0]["m.h5"]


class Malice:
    """Would make a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch '{self.path}'",)


def test_no_pickle_is_executed(tmp_path: Path) -> None:
    done, folder = tmp_path / "done", tmp_path / "files"
    folder.mkdir()
    malice = Malice(done)
    (folder / "plain.pth").write_bytes(pickle.dumps({"state_dict": malice}))
    torch.save({"state_dict": {"a": torch.zeros(1)}, "x": malice}, folder / "zip.pth")
    torch.save({"a": malice}, folder / "old.pth", _use_new_zipfile_serialization=False)
    for path in folder.iterdir():
        with pytest.raises(WeightsError, match="not a checkpoint of plain tensors"):
            weights.load(str(path))
    torch.save({"step": 1, "options": malice}, folder / "checkpoint.pt")
    with pytest.raises(ConfigurationError, match="no checkpoint of a run"):
        RunFolder(folder, {}).resume()
    stream = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": (1,)}
    np.lib.format.write_array_header_1_0(stream, header)
    with zipfile.ZipFile(folder / "scene.npz", "w") as archive:
        for name in ("image_paths", "intrinsics", "poses", "pair_infos"):
            archive.writestr(f"{name}.npy", stream.getvalue() + pickle.dumps(malice))
    with pytest.raises(ConfigurationError, match=r"which is not an array"):
        read_posed_pairs(folder / "scene.npz")
    assert not done.exists()


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 1 << 62),
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 90)
        + b'{"a":{"dtype":"F32","shape":[1099511627776,1024],"data_offsets":[0,4503599627370496]}}    ',
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}     ' + bytes(16),
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,16]}}     ' + bytes(16),
        b"\x07" + bytes(6),
    ],
)
def test_absurd_headers_of_safetensors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"safetensors|no tensors|state dict"):
        weights.load(str(tmp_path / "w.safetensors"))
