"""``posfeat-hloc train``: train PoSFeat."""

import sys

from posfeat_hloc.cli.main import command

main = command("train")

if __name__ == "__main__":
    sys.exit(main())
