"""``posfeat-hloc pack-views``: collect photographs for training."""

import sys

from posfeat_hloc.cli.main import command

main = command("pack-views")

if __name__ == "__main__":
    sys.exit(main())
