"""``posfeat-hloc train-patches``: train patch descriptors."""

import sys

from posfeat_hloc.cli.main import command

main = command("train-patches")

if __name__ == "__main__":
    sys.exit(main())
