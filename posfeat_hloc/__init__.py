"""Learned local features for COLMAP and hloc: describe first, then detect."""

__version__ = "0.1.0"
