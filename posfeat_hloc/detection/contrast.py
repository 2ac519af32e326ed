"""Where there is something to see: networks rank the pixels of a blank wall, too, where no keypoint repeats.

Contrast is measured by second differences, so that smooth shading, as of a clear sky, has none.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

VISIBLE = 0.002
"""Half a grey level of 255: any difference between two 8-bit pixels that is not smooth shading passes."""

ABOVE_NOISE = 0.02
"""5 grey levels of 255. Noise of a deviation of 1 level in a grey image measures 2.1 on the median of all places and
4.1 at the highest of 640 x 480; in an image of three independent channels 1.2 and 2.5."""

REACH = 4
"""Pixels around a keypoint within which contrast counts: the least that holds the middle of a blob of a coarse peak."""

CELL = 2
"""Side in pixels of the cells of :func:`contrast`."""


def textured(images: Tensor, least: float, reach: int = REACH) -> Tensor:
    """Pixels with at least this contrast within ``reach`` pixels on each side.

    Args:
        images: ``(B, 1 or 3, H, W)`` in [0, 1].
        least: see :func:`contrast`.

    Returns:
        ``(B, H, W)`` bool.
    """
    height, width = images.shape[-2:]
    enough = contrast(images, reach) >= least
    return enough.repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)[:, :height, :width]


def contrast(images: Tensor, reach: int = REACH) -> Tensor:
    """The strongest edge, line or blob within ``reach`` pixels of each cell of 2 x 2 pixels, by its contrast.

    The Frobenius norm of the Hessian of the image, averaged over the cells and smoothed by (1 2 1) / 4, times four: a
    straight step of contrast c measures c, a blob of 1.5 to 2 px (sigma) and contrast c 1.6 c.

    Args:
        images: ``(B, 1 or 3, H, W)`` in [0, 1].
        reach: pixels, even.

    Returns:
        ``(B, ceil(H / 2), ceil(W / 2))`` float32.
    """
    grey = images.float().mean(dim=1, keepdim=True)
    height, width = grey.shape[-2:]
    grey = F.avg_pool2d(F.pad(grey, (0, -width % CELL, 0, -height % CELL), mode="replicate"), CELL)
    x = F.pad(grey, (2, 2, 2, 2), mode="replicate")
    x = (x[..., :-2] + x[..., 2:]).add_(x[..., 1:-1], alpha=2).mul_(0.25)
    x = (x[..., :-2, :] + x[..., 2:, :]).add_(x[..., 1:-1, :], alpha=2).mul_(0.25)
    centre = x[..., 1:-1, 1:-1]
    xx = x[..., 1:-1, 2:] + x[..., 1:-1, :-2] - 2 * centre
    yy = x[..., 2:, 1:-1] + x[..., :-2, 1:-1] - 2 * centre
    xy = (x[..., 2:, 2:] + x[..., :-2, :-2] - x[..., 2:, :-2] - x[..., :-2, 2:]) / 4
    norm = xx.square_().add_(yy.square_()).addcmul_(xy, xy, value=2).sqrt_()
    cells = reach // CELL
    for kernel in ((1, 2 * cells + 1), (2 * cells + 1, 1)):
        norm = F.max_pool2d(norm, kernel, stride=1, padding=(kernel[0] // 2, kernel[1] // 2))
    return norm[:, 0] * 4
