"""The errors a user can meet. Every message names the file, what is wrong, and what to do about it."""


class PosfeatError(Exception):
    """Base of all errors raised on purpose by this package; commands print it without a traceback."""


class ImageError(PosfeatError):
    """An image file cannot be used; the pipelines skip it and list it in their summary."""


class StoreError(PosfeatError):
    """An HDF5 file is damaged, not ours, or belongs to another configuration."""


class WeightsError(PosfeatError):
    """Weights are missing, altered or of the wrong shape."""


class ConfigurationError(PosfeatError):
    """An option, a configuration name or a combination of them is not valid."""


class MappingError(PosfeatError):
    """COLMAP could not be given, or did not return, what was asked for."""


class DataError(PosfeatError):
    """Training data is missing, malformed, or leaves nothing to train on."""


class TrainingError(PosfeatError):
    """A training step gave no usable gradient."""


class ClusterError(PosfeatError):
    """Ray is missing, cannot be reached, or lost its machines, or they have other versions of this package."""


class HlocError(PosfeatError):
    """hloc is missing, cannot be imported, or is built otherwise than this package knows."""
