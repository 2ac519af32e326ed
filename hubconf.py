"""Features for ``torch.hub.load(FOLDER_OR_REPOSITORY, "posfeat_small", ...)``.

See ``posfeat_hloc.extractors.detector``.
"""

from posfeat_hloc.extractors.detector import Detector

dependencies = ["cv2", "h5py", "kornia", "numpy", "safetensors", "torch"]


def posfeat_small(max_keypoints: int | None = None, device: str = "auto", weights: str | None = None) -> Detector:
    """PoSFeat's light form, for CPUs; ``detectAndCompute(image)`` as OpenCV's or XFeat's."""
    return Detector("posfeat-small", max_keypoints, device, weights)


def posfeat(max_keypoints: int | None = None, device: str = "auto", weights: str | None = None) -> Detector:
    """PoSFeat on a ResNet-18; ``detectAndCompute(image)`` as OpenCV's or XFeat's."""
    return Detector("posfeat", max_keypoints, device, weights)


def d2d_hardnet_subpixel(
    max_keypoints: int | None = None, device: str = "auto", weights: str | None = None
) -> Detector:
    """D2D over HardNet, with places below the pixel; ``detectAndCompute(image)`` as OpenCV's or XFeat's."""
    return Detector("d2d-hardnet-subpixel", max_keypoints, device, weights)
