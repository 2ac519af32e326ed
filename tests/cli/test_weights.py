"""``posfeat-hloc weights``: what is listed, fetched, verified and converted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from posfeat_hloc import weights
from posfeat_hloc.__main__ import main
from posfeat_hloc.networks.l2net import L2Net
from posfeat_hloc.networks.posfeat import PoSFeat
from posfeat_hloc.weights.conversion import LOADERS, architecture_of, identify
from posfeat_hloc.weights.loading import load_l2net, load_posfeat
from tests.web_server import Server, web_server

Output = pytest.CaptureFixture[str]


def run(*arguments: object) -> int:
    return main(["weights", *map(str, arguments)])


def state(architecture: str) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return L2Net(architecture).published()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """HardNet as its authors' training script saves it."""
    path = tmp_path / "HardNet++.pth"
    torch.save({"epoch": 9, "state_dict": state("hardnet")}, path)
    return path


@pytest.fixture
def server(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of that checkpoint, known as ``hardnet++``; an empty cache."""
    with web_server(checkpoint.read_bytes()) as running:
        entry = weights.Public(running.url("HardNet%2B%2B.pth"), weights.git_blob(checkpoint), "MIT licence")
        bundled = {name: weights.BUNDLED[name] for name in ("hardnet", "sosnet")}
        monkeypatch.setattr("torch.hub.get_dir", lambda: str(checkpoint.parent / "hub"))
        with (
            patch.dict(weights.PUBLIC, {"hardnet++": entry}, clear=True),
            patch.dict(weights.BUNDLED, bundled, clear=True),
        ):
            yield running


def test_names_begin_with_an_architecture() -> None:
    for name in (*weights.BUNDLED, *weights.PUBLIC):
        assert architecture_of(name) in LOADERS
    assert [architecture_of(n) for n in ("hardnet++", "sosnet-liberty", "posfeat-small")] == [
        "hardnet", "sosnet", "posfeat",
    ]  # fmt: skip


def test_the_list_before_and_after_a_download(server: Server, capsys: Output) -> None:
    assert run("list") == 0
    before = capsys.readouterr().out
    version = weights.version_of("hardnet")
    assert re.search(rf"^hardnet {{15}}HardNet +in the package as {version}, Apache-2.0$", before, re.MULTILINE)
    for entry in weights.BUNDLED.values():
        assert f"sha256 {entry.sha256}\n  {weights.weights_folder() / entry.file}, 2.7 MB\n" in before
    blob = weights.PUBLIC["hardnet++"].digest
    assert f"public, MIT licence\n  git blob {blob}\n  not downloaded yet: posfeat-hloc weights get" in before
    assert "PoSFeat" in before
    assert all(len(line) <= 80 for line in before.splitlines() if not line.startswith("  /"))
    assert server.asked == []
    assert run("get", "hardnet++") == 0
    capsys.readouterr()
    weights.PUBLIC["hardnet++"] = replace(weights.PUBLIC["hardnet++"], licence="many conditions, " * 8)
    assert run("list") == 0
    out = capsys.readouterr().out
    assert f"\n{' ' * 34}many conditions, many" in out
    assert all(len(line) <= 80 for line in out.splitlines() if not line.startswith("  /"))
    assert f"  {weights.public_path('hardnet++')}, {len(server.content) / 1e6:.1f} MB\n" in out


def test_get_continues_and_copies(server: Server, checkpoint: Path, tmp_path: Path, capsys: Output) -> None:
    part = weights.public_path("hardnet++").with_name("HardNet++.pth.partial")
    part.parent.mkdir(parents=True)
    part.write_bytes(server.content[:5000])
    assert run("get", "hardnet++", "--output", f"{tmp_path}/new/") == 0
    assert server.asked == ["bytes=5000-"]
    assert (tmp_path / "new" / "HardNet++.pth").read_bytes() == checkpoint.read_bytes()
    assert f"hardnet++, {checkpoint.stat().st_size / 1e6:.1f} MB, MIT licence" in capsys.readouterr().out
    assert run("get", "hardnet++", "--output", tmp_path / "mine.pth") == 0
    assert (tmp_path / "mine.pth").read_bytes() == checkpoint.read_bytes()
    assert len(server.asked) == 1
    assert run("get", "hardnet", "--output", tmp_path) == 0
    assert weights.sha256(tmp_path / weights.BUNDLED["hardnet"].file) == weights.BUNDLED["hardnet"].sha256
    assert run("get", weights.version_of("hardnet"), "--output", tmp_path / "versioned.safetensors") == 0
    assert weights.sha256(tmp_path / "versioned.safetensors") == weights.BUNDLED["hardnet"].sha256


def test_get_from_a_file_takes_the_published_one_only(
    server: Server, checkpoint: Path, tmp_path: Path, capsys: Output
) -> None:
    copy = checkpoint.rename(tmp_path / "of a colleague.pth")
    assert run("get", "hardnet++", "--from", copy) == 0
    there = weights.public_path("hardnet++")
    assert there.read_bytes() == copy.read_bytes()
    assert capsys.readouterr().out.startswith(f"{there}\n  hardnet++, ")
    assert not server.asked
    other = tmp_path / "other.pth"
    other.write_bytes(copy.read_bytes()[:-1])
    there.unlink()
    for wrong in (other, tmp_path / "none.pth"):
        assert run("get", "hardnet++", "--from", wrong) == 1
        assert f"{wrong}: not the published file of 'hardnet++' (git blob " in capsys.readouterr().err
    assert not there.exists()
    assert run("get", "hardnet", "--from", copy) == 1
    assert "'hardnet' is in the package" in capsys.readouterr().err


def test_get_of_something_else(server: Server, capsys: Output) -> None:
    assert run("get", "hardnet--") == 1
    assert capsys.readouterr().err == (
        "error: 'hardnet--' is not a name of weights; choose from hardnet, sosnet, hardnet++\n"
    )
    server.content = b"another file"
    assert run("get", "hardnet++") == 1
    assert "is not the published file" in capsys.readouterr().err


def test_verify_all_that_is_here(server: Server, capsys: Output) -> None:
    assert run("verify") == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[::2]] == [
        "ok    hardnet",
        "ok    sosnet",
    ]
    assert run("get", "hardnet++") == 0
    capsys.readouterr()
    assert run("verify") == 0
    out = capsys.readouterr().out
    assert "ok    hardnet++: HardNet, 1.33 M parameters\n      git's hash as in the authors' repository\n" in out
    path = weights.public_path("hardnet++")
    path.write_bytes(path.read_bytes()[:-1])
    assert run("verify") == 1
    assert f"fail  {path}: not the published file of 'hardnet++'" in capsys.readouterr().out


def test_verify_names_and_files(server: Server, checkpoint: Path, tmp_path: Path, capsys: Output) -> None:
    nan = state("sosnet")
    nan["layers.4.weight"][0, 0, 0, 0] = torch.nan
    torch.save(nan, tmp_path / "nan.pth")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    given = [checkpoint, "hardnet++", tmp_path / "nan.pth", tmp_path / "other.pth", tmp_path / "gone.pth", tmp_path]
    assert run("verify", *given) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"ok    {checkpoint}: HardNet, 1.33 M parameters", "      the published file of 'hardnet++'"]
    for line, expected in zip(lines[2:], [
        "hardnet++: not downloaded yet; run posfeat-hloc weights get hardnet++",
        f"{tmp_path / 'nan.pth'}: 1 of 28 tensors hold NaN or infinite numbers, such as layers.4.weight",
        f"{tmp_path / 'other.pth'}: not weights of a network of this package (HardNet, SOSNet, PoSFeat, ",
        f"weights '{tmp_path / 'gone.pth'}': neither a file nor a known name",
        f"{tmp_path}: holds no backbone.pth and no localheader.pth",
    ], strict=True):  # fmt: skip
        assert line.startswith(f"fail  {expected}")
    torch.save(state("sosnet"), tmp_path / "mine.pth")
    assert run("verify", tmp_path / "mine.pth") == 0
    assert "no hash to compare with" in capsys.readouterr().out


@pytest.mark.parametrize("architecture", ["hardnet", "sosnet"])
def test_converted_checkpoints_describe_alike(architecture: str, tmp_path: Path, capsys: Output) -> None:
    source, output = tmp_path / "authors.pth", tmp_path / "new" / "ours.safetensors"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state(architecture).items()}}, source)
    assert run("convert", source, output) == 0
    assert "all 28 tensors read again and equal" in capsys.readouterr().out
    with safe_open(output, framework="pt") as file:
        assert file.metadata() == {
            "architecture": architecture, "source": "authors.pth", "source_sha256": weights.sha256(source),
        }  # fmt: skip
    patches = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, after = (load_l2net(architecture, str(p))[0].describe_patches(patches) for p in (source, output))
    assert torch.equal(before, after)  # single precision is kept
    assert identify(str(output)).architecture == architecture


def test_convert_posfeats_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = PoSFeat("resnet18")
    for part in ("backbone", "localheader"):
        content = {f"module.{name}": tensor for name, tensor in getattr(network, part).state_dict().items()}
        torch.save(content, tmp_path / f"{part}.pth")
    assert run("convert", tmp_path, tmp_path / "posfeat.safetensors") == 0
    loaded = load_posfeat(str(tmp_path / "posfeat.safetensors"))
    assert loaded.backbone.backbone_name == "resnet18"
    assert loaded.localheader is not None
    for part in (loaded.backbone, loaded.localheader):
        expected = (network.backbone if part is loaded.backbone else network.localheader).state_dict()
        assert part.state_dict().keys() == expected.keys()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in part.state_dict().items())


class Malice:
    """Would write a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, capsys: Output) -> None:
    torch.save({"state_dict": state("hardnet"), "extra": Malice(tmp_path / "done")}, tmp_path / "evil.pth")
    assert run("convert", tmp_path / "evil.pth", tmp_path / "out.safetensors") == 1
    assert "not a checkpoint of plain tensors" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.pth"]


def test_bad_input_of_convert(checkpoint: Path, capsys: Output) -> None:
    assert run("convert", checkpoint, "out.pth") == 1
    assert capsys.readouterr().err == "error: out.pth: the name must end in .safetensors\n"
    assert run("convert", checkpoint.parent / "gone", checkpoint.parent / "out.safetensors") == 1
    assert "neither a file nor a known name" in capsys.readouterr().err


def test_average_of_two_weights(tmp_path: Path, capsys: Output) -> None:
    for name, value in {"a": 1.0, "b": 3.0}.items():
        tensors = {"w": torch.full((2, 3), value), "count": torch.tensor(int(value))}
        tensors["localheader.w"] = torch.full((2,), value)
        weights.save(tmp_path / f"{name}.safetensors", tensors, {"from": name})
    output = tmp_path / "new" / "mean.safetensors"
    assert run("average", tmp_path / "a.safetensors", tmp_path / "b.safetensors", output, "--share", "0.75") == 0
    mean = weights.load(str(output))
    assert torch.equal(mean.tensors["w"], torch.full((2, 3), 2.5))
    assert int(mean.tensors["count"]) == 3
    assert mean.tensors["localheader.w"].tolist() == [3, 3]
    assert mean.metadata["from"] == "b"
    assert mean.sha256 in capsys.readouterr().out
    assert run("average", "hardnet", "posfeat-small", output) == 1
    assert "not weights of one network" in capsys.readouterr().err
    assert run("average", "hardnet", "hardnet", output, "--share", "2") == 1
    assert "--share 2.0" in capsys.readouterr().err
