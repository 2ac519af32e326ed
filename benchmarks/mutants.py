"""Which small changes of the code no test notices: mutation testing of the papers' core.

    python benchmarks/mutants.py posfeat_hloc/detection posfeat_hloc/matchers      # all mutants of these packages
    python benchmarks/mutants.py posfeat_hloc/mapping --sample 100                 # 100 drawn from all of its files
    python benchmarks/mutants.py posfeat_hloc/detection/d2d.py --list              # what would be changed

Each mutant changes one place of one module (:mod:`benchmarks.mutations`) and is given to the test files of the same
package that import this module, as far as their tests execute the changed line. The working tree is not touched:
processes of their own run the changed text (:mod:`benchmarks.mutant_trials`). A mutant is caught when a test fails or
takes many times as long as before; the others are printed, and the exit code is 1 when there are any. A survivor is a
missing test, or a change that makes no difference.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

import PIL.Image  # noqa: E402, F401  before pycolmap, see tests/conftest.py
import torch  # noqa: E402

from benchmarks.mutant_trials import try_mutants  # noqa: E402
from benchmarks.mutations import Mutation, mutations  # noqa: E402

for library in ("cv2", "h5py", "kornia", "pycolmap", "safetensors.torch", "sympy"):
    importlib.import_module(library)  # once, not in each process


def module_name(path: Path) -> str:
    """``posfeat_hloc/detection/d2d.py`` -> ``posfeat_hloc.detection.d2d``."""
    parts = path.resolve().relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tests_of(path: Path, mirrored: bool) -> list[str]:
    """The test files of the same package that import a module, that of the same name first.

    Where there are none, those of the modules beside it that import it. With ``mirrored``, that of the same name
    alone where it exists.
    """
    folder = ROOT / "tests" / path.resolve().relative_to(ROOT / "posfeat_hloc").parent
    own = folder / f"test_{path.stem}.py"
    if mirrored and own.exists():
        return [str(own)]
    found = _importing(folder.glob("test_*.py"), path) | ({own} if own.exists() else set())
    if found:
        return [str(test) for test in sorted(found, key=lambda test: (test != own, test))]
    users = _importing(path.parent.glob("*.py"), path)
    return sorted(map(str, set().union(*(_importing(folder.glob("test_*.py"), user) for user in users))))


def _importing(files: Iterable[Path], path: Path) -> set[Path]:
    module = module_name(path)
    package, _, name = module.rpartition(".")
    wanted = (f"from {module} import", f"import {module}", f"from {package} import {name}")
    return {file for file in files if any(words in file.read_text() for words in wanted)}


def main() -> int:
    """Make mutants, test them, print survivors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, help="modules, or folders of them")
    parser.add_argument("--sample", type=int, help="try only so many, drawn at random from all files")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--mirrored", action="store_true", help="only with the test file of the module's name: quicker")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    parser.add_argument("--only", help="only mutants whose line in --list contains this text")
    parser.add_argument("--json", type=Path, help="append a line for each mutant to this file")
    args = parser.parse_args()

    files = [f for path in args.paths for f in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    possible = [(f, m) for f in files for m in mutations(f.read_text()) if not args.only or args.only in f"{f}:{m}"]
    chosen = possible
    if args.sample and args.sample < len(possible):
        chosen = random.Random(args.seed).sample(possible, args.sample)
    mutants = {f: sorted(m for g, m in chosen if g == f) for f in files}
    if args.list:
        print(*(f"{f}:{m}" for f in files for m in mutants[f]), sep="\n")
        return 0

    torch.set_num_threads(1)
    outcomes = []
    for file, mutant, outcome in trials(mutants, args.mirrored):
        outcomes.append(outcome)
        if outcome == "survived":
            print(f"{file}:{mutant}", flush=True)
        if args.json:
            with args.json.open("a") as stream:
                stream.write(json.dumps({"file": str(file), "mutant": str(mutant), "outcome": outcome}) + "\n")
    survivors = outcomes.count("survived")
    print(f"{survivors} of {len(outcomes)} mutants survived ({len(possible)} possible)")
    return int(survivors > 0)


def trials(mutants: dict[Path, list[Mutation]], mirrored: bool) -> Iterator[tuple[Path, Mutation, str]]:
    """Each mutant and its outcome."""
    for file, some in mutants.items():
        if not some:
            continue
        if tests := tests_of(file, mirrored):
            found: list[tuple[Mutation, str]] = []
            try_mutants(file, module_name(file), some, tests, lambda *outcome, found=found: found.append(outcome))
        else:
            print(f"{file}: no test file of its package imports it", flush=True)
            found = [(mutant, "survived") for mutant in some]
        yield from ((file, mutant, outcome) for mutant, outcome in found)


if __name__ == "__main__":
    sys.exit(main())
