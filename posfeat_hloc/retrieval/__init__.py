"""Image retrieval: global descriptors, and the search for the most similar images."""

from posfeat_hloc.retrieval.describe import describe_images
from posfeat_hloc.retrieval.search import retrieve

__all__ = ["describe_images", "retrieve"]
