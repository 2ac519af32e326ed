"""``posfeat-hloc hpatches``: matching accuracy under known homographies."""

import sys

from posfeat_hloc.cli.main import command

main = command("hpatches")

if __name__ == "__main__":
    sys.exit(main())
