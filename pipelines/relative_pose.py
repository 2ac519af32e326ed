"""``posfeat-hloc relative-pose``: relative poses of image pairs."""

import sys

from posfeat_hloc.cli.main import command

main = command("relative-pose")

if __name__ == "__main__":
    sys.exit(main())
