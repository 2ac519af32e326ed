"""From features and matches to COLMAP models: pairs, database, verification, mapping, maps at known poses.

Only this package and ``localization`` add COLMAP's half pixel to keypoints.
"""
