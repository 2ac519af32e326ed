"""From a map and photographs to poses: queries, matches to 3D points, absolute poses, result files.

Beside ``sfm/`` the only package that adds COLMAP's half pixel to keypoints.
"""
