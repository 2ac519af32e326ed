"""Two-view geometry: each formula is written once, for arrays or tensors."""
