"""``posfeat-hloc eth``: structure from motion statistics."""

import sys

from posfeat_hloc.cli.main import command

main = command("eth")

if __name__ == "__main__":
    sys.exit(main())
