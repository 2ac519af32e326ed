"""Which images look alike: global descriptors, and the search for the most similar ones."""
