"""PoSFeat's detection network: a score for every pixel, from the description network's maps and the image.

Parameter names are the published ones: published checkpoints load unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posfeat_hloc.networks.normalization import normalize_imagenet

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
