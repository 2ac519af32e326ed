"""Orientation of photographs, estimated before features are extracted.

Learned descriptors stand a roll of about 30 degrees. Small pictures of the images vote for their relative turns
(:mod:`votes`), similar ones and neighbours only, further turns of a picture only where it agrees with no other
(:mod:`election`), and the turns of all images follow from the votes (:mod:`synchronisation`).
"""

from posfeat_hloc.orientation.choice import MODES, Orientation, choose_views

__all__ = ["MODES", "Orientation", "choose_views"]
