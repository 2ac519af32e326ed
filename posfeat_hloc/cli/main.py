"""The console script ``posfeat-hloc``: the commands of ``python -m posfeat_hloc``."""

from posfeat_hloc.__main__ import main

__all__ = ["main"]
