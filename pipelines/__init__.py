"""The commands: ``python -m pipelines.<name> --help``."""

import PIL.Image  # noqa: F401  before pycolmap, as in posfeat_hloc/__init__.py
