"""Small posed pairs and a small PoSFeat for the tests of its training."""

from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from posfeat_hloc.networks.posfeat import PoSFeat
from posfeat_hloc.networks.small import SmallHead
from posfeat_hloc.training.posed_pairs import PosedPair
from posfeat_hloc.training.stages import Teacher
from posfeat_hloc.training.synthetic_planes import PlanesOptions, PlanesSource
from posfeat_hloc.training.views import RandomMix
from posfeat_hloc.weights.loading import LoadedPoSFeat
from tests.rendering import texture

SIZE = (96, 80)
"""Width and height of the views."""


def photographs(folder: Path, count: int = 3) -> Path:
    """A folder of textured pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        smooth = cv2.GaussianBlur(np.stack([texture(240, 3 * i + c) for c in range(3)], axis=-1), (0, 0), 2)
        Image.fromarray(smooth).save(folder / f"photo{i}.png")
    return folder


def mix(folder: Path) -> RandomMix[PosedPair]:
    """Rendered scenes of these pictures."""
    return RandomMix([(1.0, PlanesSource(folder, PlanesOptions(size=SIZE)))])


def network(seed: int = 0, backbone_name: str = "resnet18") -> PoSFeat:
    """PoSFeat on the smallest ResNet, or another backbone, with random weights."""
    torch.manual_seed(seed)
    return PoSFeat(backbone_name)


def teacher() -> Teacher:
    """A light PoSFeat with random weights that answers."""
    posfeat = network(1, "small").eval()
    assert isinstance(posfeat.localheader, SmallHead)
    torch.nn.init.ones_(posfeat.localheader.conv5.weight)  # untrained small heads all score alike
    return Teacher(LoadedPoSFeat(posfeat.backbone, posfeat.localheader, "consistent", ""))
