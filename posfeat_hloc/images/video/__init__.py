"""Video files in, images out: the sharpest frames at even steps of the camera's motion."""

from posfeat_hloc.images.video.frames import VideoFrames, extract_frames

__all__ = ["VideoFrames", "extract_frames"]
