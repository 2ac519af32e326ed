"""Extraction, matching and poses on the machines of a Ray cluster.

The process that was started reads all files and is the only one that writes: photographs travel as encoded bytes,
descriptors and results as arrays, so that the machines need no common storage, only the same version of this package.
"""

from posfeat_hloc.cluster.cluster import FORMS, Cluster, connect

__all__ = ["FORMS", "Cluster", "connect"]
