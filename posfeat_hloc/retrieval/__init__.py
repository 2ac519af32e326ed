"""Which images look alike: global descriptors, and the search for the most similar ones."""

from posfeat_hloc.retrieval.describe import describe_images
from posfeat_hloc.retrieval.search import retrieve

__all__ = ["describe_images", "retrieve"]
