"""Reconstruction in one call each: maps at known poses, maps that grow, models that are merged and aligned."""
