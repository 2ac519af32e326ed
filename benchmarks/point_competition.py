"""How often held-out points are most similar to their true place: among all cells of the map, and among other points.

    python benchmarks/point_competition.py --photos photos.h5 --group nature --weights A B --relight 0 1

Eight pairs of nearly upright views of 224 px, of the first six photographs of the group; the most curved pixels of
cells of 4 px. Cells compete from 3.5 px on, other points from 8 px on. One JSON line for each file and strength.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from posfeat_hloc.training.dense_networks import open_network
from posfeat_hloc.training.options import ViewOptions
from posfeat_hloc.training.photometric import relight
from posfeat_hloc.training.view_pack import read_pack
from posfeat_hloc.training.warped_views import Shelf

VIEWS = ViewOptions(size=224, cell=4, points=800, upright=1.0)


def measure(weights: str, network: str | None, shelf: Shelf, strength: float) -> dict[str, float]:
    """Shares and mean similarities."""
    dense, _ = open_network(network, weights)
    dense.network.eval()
    batch = shelf.render(
        shelf.plan(np.random.default_rng(3), (8, 0, 0), VIEWS), torch.Generator().manual_seed(1), VIEWS
    )
    maps = dense.maps(relight(batch.images, torch.Generator().manual_seed(1), strength)).float()
    halves, cells = maps.chunk(2), dense.cells(maps, VIEWS.size)
    own = [dense.read(half, xy, VIEWS.size) for half, xy in zip(halves, batch.points, strict=True)]
    true = (own[0] * own[1]).sum(dim=2)
    apart = torch.cdist(batch.points[1], batch.points[1])
    others = torch.bmm(own[0], own[1].mT).masked_fill((apart < 8) | ~batch.valid[:, None], -1).amax(dim=2)
    near = torch.cdist(batch.points[1], cells.expand(len(apart), -1, -1)) < 3.5
    normalised = torch.nn.functional.normalize(halves[1].flatten(2), dim=1)
    best = torch.bmm(own[0], normalised).masked_fill(near, -1).amax(dim=2)
    valid = batch.valid
    values = {
        "among_cells": (true > best)[valid].float().mean(),
        "among_points": (true > others)[valid].float().mean(),
        "true": true[valid].mean(),
        "other_point": others[valid].mean(),
    }
    return {name: round(float(value), 3) for name, value in values.items()}


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, metavar="PACK")
    parser.add_argument("--group", required=True)
    parser.add_argument("--network", help="hardnet or sosnet; by default PoSFeat's, as the weights are")
    parser.add_argument("--weights", nargs="+", required=True)
    parser.add_argument("--relight", type=float, nargs="+", default=[0.0])
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    pack = read_pack(args.photos)
    images = [image for image, group in zip(pack.images, pack.groups, strict=True) if group == args.group][:6]
    shelf = Shelf(replace(pack, images=images, groups=[args.group] * len(images), pairs=[]), torch.device("cpu"))
    for weights in args.weights:
        for strength in args.relight:
            found = measure(weights, args.network, shelf, strength)
            print(json.dumps({"weights": weights, "relight": strength} | found), flush=True)


if __name__ == "__main__":
    main()
