"""Dense maps in, keypoints out."""
