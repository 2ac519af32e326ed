"""``posfeat-hloc localize``: poses of photographs in a map."""

import sys

from posfeat_hloc.cli.main import command

main = command("localize")

if __name__ == "__main__":
    sys.exit(main())
