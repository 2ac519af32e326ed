"""``posfeat-hloc aachen``: Aachen Day-Night."""

import sys

from posfeat_hloc.cli.main import command

main = command("aachen")

if __name__ == "__main__":
    sys.exit(main())
