"""The Aachen Day-Night benchmark: its files, both of its protocols, and small data sets of the same form."""
