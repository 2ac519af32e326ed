"""Random weights of the networks that kornia has from 0.9 on, as their authors publish them."""

from functools import cache
from pathlib import Path
from typing import Any

import kornia
import torch

KORNIA_HAS_PEERS = hasattr(kornia.feature, "ALIKED") and hasattr(kornia.feature, "XFeat")
WITHOUT_PEERS = f"kornia {kornia.__version__} has no ALIKED and no XFeat; 0.9 has, for Python 3.11 and newer"


@cache
def random_aliked(form: str = "aliked-n16") -> Any:
    torch.manual_seed(0)
    return kornia.feature.ALIKED(form, 40, 0.2, 2).eval()


@cache
def random_xfeat() -> Any:
    torch.manual_seed(0)
    return kornia.feature.XFeat().eval()


def save_random_aliked(path: Path, form: str = "aliked-n16") -> None:
    """A file as ALIKED's authors publish it: kornia's fixed grid of offsets is not in it."""
    state = random_aliked(form).state_dict()
    torch.save({name: tensor for name, tensor in state.items() if not name.startswith("dkd.")}, path)


def save_random_xfeat(path: Path) -> None:
    torch.save(random_xfeat().net.state_dict(), path)
