"""A page about a finished, or unfinished, run: one HTML file made from what its output folder holds."""
