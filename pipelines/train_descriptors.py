"""``posfeat-hloc train-descriptors``: train dense descriptors."""

import sys

from posfeat_hloc.cli.main import command

main = command("train-descriptors")

if __name__ == "__main__":
    sys.exit(main())
