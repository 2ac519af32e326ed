"""Damaged inputs for everything that reads a file of the user's, for as long as one likes.

    python -m tests.fuzzing --seconds 120
    python -m tests.fuzzing --reader image --seed 1 --seconds 60
    python -m tests.fuzzing --reader image --show 4711        # write input 4711 to the folder fuzz-input

A reader must succeed or raise an error with a message; another exception, more than five seconds, more than 2 GB or the
end of the process is a finding, named with the number of its first input.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzzing.isolated import try_inputs, write_input
from tests.fuzzing.readers import all_readers


def main(argv: list[str] | None = None) -> int:
    """Try inputs, print a line for each reader; 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="for all readers together (default: %(default)s)")
    parser.add_argument("--reader", action="append", help="only this one; may be given several times")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other inputs (default: %(default)s)")
    parser.add_argument("--show", type=int, metavar="NUMBER", help="write this input of --reader to fuzz-input")
    args = parser.parse_args(argv)
    readers = all_readers()
    if unknown := set(args.reader or ()) - readers.keys():
        parser.error(f"no reader {', '.join(unknown)}; there are {', '.join(readers)}")
    chosen = [readers[name] for name in args.reader or readers]
    if args.show is not None:
        folder = Path("fuzz-input")
        folder.mkdir(exist_ok=True)
        write_input(chosen[0], args.show, folder, args.seed)
        return 0
    total, failed = 0, False
    print(f"{'reader':<22}{'inputs':>9}{'refused':>9}{'seconds':>9}  found", flush=True)
    for reader in chosen:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "input"
            folder.mkdir()
            found = try_inputs(reader, range(1 << 40), folder, seconds=args.seconds / len(chosen), seed=args.seed)
        total, failed = total + found.tried, failed or bool(found.wrong)
        seconds = time.monotonic() - start
        print(f"{reader.name:<22}{found.tried:>9}{found.refused:>9}{seconds:>9.1f}  {len(found.wrong) or 'nothing'}")
        for what, (number, said) in found.wrong.items():
            print(f"    input {number}: {what} {said}")
        sys.stdout.flush()
    print(f"{total} inputs in all")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
