"""``posfeat-hloc miniature-aachen``: a small data set in the files of Aachen Day-Night."""

import sys

from posfeat_hloc.cli.main import command

main = command("miniature-aachen")

if __name__ == "__main__":
    sys.exit(main())
