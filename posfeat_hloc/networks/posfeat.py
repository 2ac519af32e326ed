"""PoSFeat's detection network: a score for every pixel, from the description network's maps and the image.

Parameter names are the published ones: published checkpoints load unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posfeat_hloc.networks.normalization import normalize_imagenet
from posfeat_hloc.networks.resunet import RESNETS, ResUNet
from posfeat_hloc.networks.small import SMALL, SmallHead, SmallUNet

MAP_CHANNELS = 192
"""Of ``local_map`` (128) and ``local_map_small`` (64) together."""

IMAGE_CHANNELS = 64
"""CacheKey from the image itself, at full resolution."""


class KeypointHead(nn.Module):
    """Scores of about 0.3 to 3: Softplus of an instance-normalised map. One PReLU slope is shared by both places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(MAP_CHANNELS, MAP_CHANNELS, 3, padding=1)
        self.convimg = nn.Conv2d(3, IMAGE_CHANNELS, 3, padding=1)
        self.conv2 = nn.Conv2d(MAP_CHANNELS + IMAGE_CHANNELS, 128, 3, padding=1)
        self.conv3 = nn.Conv2d(128, 1, 1)
        self.relu = nn.PReLU()

    def forward(self, local_map: Tensor, local_map_small: Tensor, images: Tensor) -> Tensor:
        """Score every pixel. The maps are taken as they are: detach them when the description network is frozen.

        Args:
            local_map, local_map_small: ``(B, 128, h, w)`` and ``(B, 64, h, w)``, see
                :class:`posfeat_hloc.networks.resunet.FeatureMaps`.
            images: ``(B, 3, H, W)`` RGB in ``[0, 1]``, any size; the maps are stretched to it.

        Returns:
            ``(B, H, W)``, positive.

        Raises:
            ValueError: the maps differ in size, as they do for an image whose sides are no multiples of 16.
        """
        if local_map.shape[2:] != local_map_small.shape[2:]:
            raise ValueError("the two maps differ in size; crop or pad the image to multiples of 16 pixels first")
        x = self.conv1(torch.cat([local_map, local_map_small], dim=1))
        x = self.relu(F.instance_norm(x))
        x = F.interpolate(x, size=images.shape[-2:], mode="bilinear", align_corners=False)
        x = torch.cat([x, F.instance_norm(self.convimg(normalize_imagenet(images)))], dim=1)
        x = self.relu(F.instance_norm(self.conv2(x)))
        return F.softplus(F.instance_norm(self.conv3(x).float()))[:, 0]


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
