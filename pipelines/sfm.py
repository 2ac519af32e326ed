"""``posfeat-hloc sfm``: reconstruct photographs."""

import sys

from posfeat_hloc.cli.main import command

main = command("sfm")

if __name__ == "__main__":
    sys.exit(main())
