"""``python -m posfeat_hloc COMMAND`` is ``posfeat-hloc COMMAND``."""

from __future__ import annotations

import sys

from posfeat_hloc.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
