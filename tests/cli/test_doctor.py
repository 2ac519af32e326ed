"""``python -m posfeat_hloc doctor``: its lines, its exit code, and that it starts where nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import posfeat_hloc
from posfeat_hloc.__main__ import main
from posfeat_hloc.cli import doctor
from posfeat_hloc.cli.doctor import Report
from posfeat_hloc.doctor import requirements
from posfeat_hloc.doctor.requirements import Finding

Output = pytest.CaptureFixture[str]


def test_quick(capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(requirements, "installed", lambda _: [])
    monkeypatch.setattr(requirements, "check_hloc", lambda: Finding("ok", "not looked at here"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code = main(["doctor", "--quick"])
    lines = capsys.readouterr().out.splitlines()
    assert code == 0, lines
    names = ["pillow", "numpy", "torch", "kornia", "safetensors", "opencv", "h5py", "pycolmap", "tqdm", "filelock"]
    start = lines.index("versions") + 1
    versions = lines[start : start + 13]
    assert [line[:22].strip() for line in versions] == ["python", *names, "posfeat_hloc", "hloc (optional)"]
    assert [line[22:28] for line in versions] == ["ok    "] * 13
    assert {"hardware", "weights", "files"} < set(lines)
    assert not any(line.startswith("self-test") for line in lines)
    assert lines[-1] == "all checks passed"
    assert all(len(line) <= 80 for line in lines[1:])


def test_the_self_test_decides_the_exit_code(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "REQUIREMENTS", ())
    monkeypatch.setattr(requirements, "check_hloc", lambda: Finding("warn", "hloc is odd", "look"))
    monkeypatch.setattr(doctor, "_check_the_rest", lambda _: None)
    for status, code, summary in (("ok", 0, "1 to look at: see"), ("fail", 1, "1 failed, 1 to look at: see")):
        finding = Finding(status, "poses", "mend it")
        monkeypatch.setattr("posfeat_hloc.doctor.self_test.run", lambda finding=finding: finding)
        assert main(["doctor"]) == code
        out = capsys.readouterr().out
        assert f"  true cameras found  {status:<6}poses\n{' ' * 28}-> mend it\n" in out
        assert summary in out.splitlines()[-1]


def test_a_check_that_breaks_is_a_finding(capsys: Output) -> None:
    report = Report()

    def broken() -> Finding:
        raise KeyError("keypoints\nand more")

    report.check("something", broken)
    assert report.failed == 1
    assert capsys.readouterr().out.startswith("  something           fail  KeyError: ")


def test_long_texts_stay_within_the_terminal(capsys: Output) -> None:
    Report().check("something", lambda: Finding("warn", "many words " * 20, "a b c " * 40))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 6
    assert all(len(line) <= 80 for line in lines)
    assert all(line.startswith(" " * 28) for line in lines[1:])


@pytest.mark.parametrize("name", ["torch", "numpy"])
def test_doctor_starts_without_what_everything_needs(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise ImportError('libmissing.so: no such file')")
    paths = [str(tmp_path), str(Path(posfeat_hloc.__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-m", "posfeat_hloc", "doctor"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == ""
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"  {name} ")]
    assert line.startswith(f"  {name:<20}fail  cannot be imported (ImportError: libmissing.so:")
    assert f"-> pip install --force-reinstall '{name}>=" in done.stdout
    assert "Not checked: hardware, weights, files, self-test." in done.stdout
