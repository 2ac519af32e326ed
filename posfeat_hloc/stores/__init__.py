"""HDF5 files in hloc's layout: the only code of this package that touches HDF5."""

from posfeat_hloc.stores.features import FeatureStore
from posfeat_hloc.stores.global_descriptors import GlobalDescriptorStore
from posfeat_hloc.stores.matches import MatchStore

__all__ = ["FeatureStore", "GlobalDescriptorStore", "MatchStore"]
