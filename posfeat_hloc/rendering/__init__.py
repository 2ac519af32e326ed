"""Rendering of textured planes with known cameras: the demo, the miniature data sets, and the self-test."""
