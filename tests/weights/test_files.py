"""Files of weights: what is written is read again, and what is not a file of weights is refused."""

import hashlib
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from posfeat_hloc import weights
from posfeat_hloc.errors import WeightsError
from posfeat_hloc.weights import files


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "features.0.weight": torch.randn(8, 1, 3, 3, generator=generator),
        "features.1.running_var": torch.rand(8, generator=generator, dtype=torch.float64),
        "features.1.num_batches_tracked": torch.tensor(70_000),
        "transposed": torch.randn(5, 7, generator=generator).T,
    }


def test_saved_weights_are_read_as_half_precision(tmp_path: Path) -> None:
    saved, path = tensors(), tmp_path / "weights.safetensors"
    weights.save(path, saved, {})
    read = weights.load(str(path)).tensors
    assert read.keys() == saved.keys()
    for name, tensor in saved.items():
        if tensor.is_floating_point():
            assert read[name].dtype == torch.float32
            assert torch.equal(read[name], tensor.half().float())
            assert ((read[name] - tensor).abs() <= tensor.abs() * 2**-11 + 2**-25).all()  # rounded to nearest
        else:
            assert torch.equal(read[name], tensor)
    assert load_file(path)["features.0.weight"].dtype == torch.float16


def test_values_too_large_for_half_precision_are_kept(tmp_path: Path) -> None:
    path, saved = tmp_path / "weights.safetensors", {"running_var": torch.tensor([1e-3, 7e4]), "weight": torch.ones(2)}
    weights.save(path, saved, {})
    assert torch.equal(weights.load(str(path)).tensors["running_var"], saved["running_var"])
    assert {name: t.dtype for name, t in load_file(path).items()} == {
        "running_var": torch.float32,
        "weight": torch.half,
    }


def test_metadata_and_hash_come_back(tmp_path: Path) -> None:
    path, metadata = tmp_path / "weights.safetensors", {"window": "33", "architecture": "hardnet"}
    digest = weights.save(path, tensors(), metadata)
    checkpoint = weights.load(str(path))
    assert checkpoint.metadata == metadata
    assert digest == checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_weights_have_the_same_hash(tmp_path: Path) -> None:
    """Features remember the hash of their weights: a repeated training must not seem to be another one."""
    metadata = {letter: letter for letter in "posfeat"}
    digests = {weights.save(tmp_path / f"{i}.safetensors", tensors(), metadata) for i in range(4)}
    assert len(digests) == 1
    other = dict(reversed(metadata.items()))
    assert weights.save(tmp_path / "other.safetensors", tensors(), other) in digests
    assert weights.save(tmp_path / "other.safetensors", tensors(), metadata | {"p": "q"}) not in digests


@pytest.mark.parametrize("metadata", [{}, {"unit": "µm, 1°", "line": 'a\n"b"'}])
def test_other_readers_understand_the_file(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = tmp_path / "weights.safetensors"
    weights.save(path, tensors(), metadata)
    with safe_open(path, framework="np") as file:
        assert (file.metadata() or {}) == metadata
        assert {name: file.get_tensor(name).shape for name in file.keys()} == {  # noqa: SIM118
            name: tuple(tensor.shape) for name, tensor in tensors().items()
        }
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("wrap", [None, "state_dict", "model", "network", "extractor"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_training_checkpoints(tmp_path: Path, wrap: str | None, prefix: str) -> None:
    saved, path = tensors(), tmp_path / "checkpoint.pth"
    named = {prefix + name: tensor for name, tensor in saved.items()}
    torch.save({wrap: named, "epoch": 3, "options": {"a": 1}} if wrap else named, path)
    checkpoint = weights.load(str(path))
    assert checkpoint.tensors.keys() == saved.keys()
    assert all(torch.equal(checkpoint.tensors[name], saved[name]) for name in saved)
    assert checkpoint.metadata == {}
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    weights.save(tmp_path / "mine.safetensors", tensors(), {"found": "yes"})
    assert weights.load("~/mine.safetensors").metadata == {"found": "yes"}


def test_unknown_names_list_the_bundled_ones() -> None:
    known = {name: weights.Bundled(f"{name}.safetensors", "") for name in ("second", "first")}
    message = r"'third': neither a file nor a known name; bundled are first, second"
    with patch.dict(weights.BUNDLED, known, clear=True), pytest.raises(WeightsError, match=message):
        weights.load("third")


@pytest.mark.parametrize("name", sorted(weights.BUNDLED))
def test_versioned_names_load_the_same_weights(name: str) -> None:
    assert weights.load(weights.version_of(name)).sha256 == weights.BUNDLED[name].sha256
    with pytest.raises(WeightsError, match="older ones come with older releases"):
        weights.load(f"{name}-v0")


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="neither a file"):
        weights.load(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\xff" * 64])
@pytest.mark.parametrize(("name", "reason"), [("a.safetensors", "not a readable safetensors"), ("a.pth", "plain ten")])
def test_files_of_something_else(tmp_path: Path, content: bytes, name: str, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=f"{name}: not a.*{reason.split()[-1]}"):
        weights.load(str(tmp_path / name))


def test_a_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    weights.save(path, tensors(), {})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsError, match=r"a\.safetensors: not a readable safetensors file"):
        weights.load(str(path))


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"state_dict": {}}, [torch.zeros(2)], torch.zeros(2), 5])
def test_checkpoints_without_tensors(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "empty.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=r"empty\.pth: holds no state dict of tensors"):
        weights.load(str(path))


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, ending: str) -> None:
    tensors = {"conv.weight": torch.ones(3, 3), "conv.bias": torch.tensor([1.0, float("nan")]), "n": torch.tensor(4)}
    path = tmp_path / f"mine.{ending}"
    if ending == "pth":
        torch.save({"state_dict": tensors}, path)
    else:
        weights.save(path, tensors, {})
    with pytest.raises(WeightsError, match=r"1 of 3 tensors hold NaN .*such as conv\.bias"):
        weights.load(str(path))


def test_the_installed_folder_goes_before_the_checkouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "posfeat_hloc" / "weights" / "files.py"
    module.parent.mkdir(parents=True)
    monkeypatch.setattr(files, "__file__", str(module))
    assert weights.weights_folder() == tmp_path / "weights"
    installed = tmp_path / "posfeat_hloc" / "_weights"
    installed.mkdir()
    assert weights.weights_folder() == installed


@pytest.mark.parametrize("name", sorted(weights.BUNDLED))
def test_bundled_weights_are_the_promised_ones(name: str) -> None:
    entry, checkpoint = weights.BUNDLED[name], weights.load(name)
    content = (weights.weights_folder() / entry.file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry.sha256 == checkpoint.sha256
    assert all(tensor.isfinite().all() for tensor in checkpoint.tensors.values())


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint at a file URL under the public name ``hardnet++``, and an empty cache."""
    path = tmp_path / "server" / "HardNet%2B%2B.pth"
    path.parent.mkdir()
    torch.save({"state_dict": tensors()}, path)
    entry = weights.Public(f"file://{path.parent}/HardNet%252B%252B.pth", weights.git_blob(path), "free for all")
    monkeypatch.setitem(weights.PUBLIC, "hardnet++", entry)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return path


def test_public_weights_are_downloaded_once(published: Path) -> None:
    read = weights.load("hardnet++")
    assert read.tensors.keys() == tensors().keys()
    assert read.sha256 == weights.sha256(published)
    published.unlink()
    assert weights.load("hardnet++").sha256 == read.sha256


def test_the_licence_is_said_when_weights_are_fetched(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights.load("hardnet++")
    assert "fetching the weights 'hardnet++' (free for all)" in capsys.readouterr().err
    weights.load("hardnet++")
    assert "fetching" not in capsys.readouterr().err
    assert "noncommercial" in weights.PUBLIC["superpoint"].licence


def test_a_damaged_copy_of_public_weights_is_downloaded_again(published: Path) -> None:
    copy = weights.download("hardnet++")
    copy.write_bytes(copy.read_bytes()[:-1])
    assert weights.load("hardnet++").sha256 == weights.sha256(published)


def test_another_file_than_the_published_one_is_refused(published: Path, tmp_path: Path) -> None:
    published.write_bytes(published.read_bytes() + b"x")
    with pytest.raises(WeightsError, match="not the published file"):
        weights.load("hardnet++")
    assert not list((tmp_path / "hub").rglob("*.pth"))


def test_without_a_network_the_way_out_is_named(published: Path) -> None:
    published.unlink()
    with pytest.raises(
        WeightsError, match=r"\(free for all\) cannot be downloaded from file.*weights get hardnet\+\+ --from FILE"
    ):
        weights.load("hardnet++")


def test_the_hash_of_git(tmp_path: Path) -> None:
    """git's own name of the file with the six bytes ``hello\\n``."""
    path = tmp_path / "hello"
    path.write_bytes(b"hello\n")
    assert weights.git_blob(path) == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_a_file_that_is_in_no_repository_is_known_by_its_sha256(tmp_path: Path) -> None:
    path = tmp_path / "hello"
    path.write_bytes(b"hello\n")
    digest = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    public = weights.Public(f"file://{path}", digest, "free")
    with patch.dict(weights.PUBLIC, {"hello": public}, clear=True):
        assert weights.is_published(path, "hello")
        assert (public.digest_kind, public.digest_of(path)) == ("sha256", digest)
        path.write_bytes(b"hello")
        assert not weights.is_published(path, "hello")


def test_names_of_public_weights_say_the_network() -> None:
    networks = ("hardnet", "sosnet", "superpoint", "disk", "aliked", "xfeat", "lightglue")
    assert all(name.startswith(networks) for name in weights.PUBLIC)
    assert not weights.PUBLIC.keys() & weights.BUNDLED.keys()
