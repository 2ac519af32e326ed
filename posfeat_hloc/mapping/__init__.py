"""From features and matches to COLMAP models: pairs, database, verification, reconstruction.

Only this package adds COLMAP's half pixel to keypoints.
"""
