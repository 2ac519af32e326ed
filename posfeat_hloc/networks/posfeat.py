"""PoSFeat: the description network and the keypoint head."""

from __future__ import annotations

from torch import Tensor, nn

from posfeat_hloc.networks.keypoint_head import KeypointHead
from posfeat_hloc.networks.resunet import RESNETS, ResUNet
from posfeat_hloc.networks.small import SMALL, SmallHead, SmallUNet

BACKBONES = (*RESNETS, SMALL)
"""What the description network can stand on: the paper's ResNets, or our own light form of both networks."""

GRID_ALIGNMENTS = ("published", "consistent")
"""``published``: pixel 0 and pixel size - 1 are the outer edges of the first and the last cell, as PoSFeat is trained
and read (pixels are normalised by size - 1, then read with ``align_corners=False``). ``consistent``: cell i lies at
pixel stride * i, where the network's strided convolutions centre it."""


class PoSFeat(nn.Module):
    """Both networks under their published names, ``backbone`` and ``localheader``.

    Args:
        backbone_name: of the description network, one of :data:`BACKBONES`.
    """

    def __init__(self, backbone_name: str = "resnet50") -> None:
        super().__init__()
        self.backbone: ResUNet | SmallUNet = SmallUNet() if backbone_name == SMALL else ResUNet(backbone_name)
        self.localheader: KeypointHead | SmallHead = SmallHead() if backbone_name == SMALL else KeypointHead()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Describe and score ``(B, 3, H, W)`` RGB images in [0, 1], with sides that are multiples of 16.

        Large images need much memory here; :mod:`posfeat_hloc.networks.tiled_inference` computes the same in tiles.

        Returns:
            ``local_map`` ``(B, 128, h, w)`` and scores ``(B, H, W)``.
        """
        maps = self.backbone(images)
        return maps.local_map, self.localheader(maps.local_map, maps.local_map_small, images)
