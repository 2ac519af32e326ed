"""``posfeat-hloc images``: the papers' pictures."""

import sys

from posfeat_hloc.cli.main import command

main = command("images")

if __name__ == "__main__":
    sys.exit(main())
