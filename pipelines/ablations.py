"""``posfeat-hloc ablations``: the ablations of both papers."""

import sys

from posfeat_hloc.cli.main import command

main = command("ablations")

if __name__ == "__main__":
    sys.exit(main())
