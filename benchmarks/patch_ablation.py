"""Compare weights of HardNet or SOSNet on the same held-out views, of photographs and of reconstructed scenes.

    python benchmarks/patch_ablation.py --photos photos/landmarks photos/travel photos/nature \\
        --model sift/fox/sparse/0 scenes/fox/images \\
        --weights runs/both/weights.safetensors runs/synthetic/weights.safetensors

Prints for each file the share of points whose nearest neighbour among all points of four view pairs is the right one,
read from the dense map as D2D reads it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from posfeat_hloc import weights
from posfeat_hloc.errors import PosfeatError
from posfeat_hloc.images.decoding import list_images
from posfeat_hloc.networks.l2net import OFFSET, STRIDE
from posfeat_hloc.training.model_pairs import ColmapOptions, ColmapSource
from posfeat_hloc.training.options import PatchTrainingOptions
from posfeat_hloc.training.patch_descriptors import PatchTrainer, read_photos
from posfeat_hloc.training.views import RandomMix, Source, SyntheticOptions, SyntheticSource, ViewPair, is_held_out


def held_out_models(models: list[list[str]]) -> list[tuple[float, Source[ViewPair]]]:
    """Sources of the held-out images of scenes that have enough of them."""
    sources: list[tuple[float, Source[ViewPair]]] = []
    for model, folder in models:
        keep = {name for name in list_images(Path(folder)) if is_held_out(name)}
        try:
            sources.append((1.0, ColmapSource(Path(model), Path(folder), ColmapOptions(light=0.5), keep)))
        except PosfeatError as error:
            print(f"left out: {error}")
    return sources


def accuracy(file: str, views: list[ViewPair]) -> float:
    """Of one file of weights; the window is the one it was trained with."""
    checkpoint = weights.load(file)
    options = PatchTrainingOptions(
        architecture=checkpoint.metadata["architecture"],
        window=int(checkpoint.metadata["window"]),
        eps=float(checkpoint.metadata["eps"]),
        pairs=4,
        points=512,
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = PatchTrainer(options, RandomMix([(1.0, _Nothing())]), views, Path(folder), checkpoint)
        return trainer.validate()["accuracy_dense"]


class _Nothing:
    """Nothing is trained here."""

    def sample(self, rng: np.random.Generator) -> ViewPair | None:
        return None


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--model", nargs=2, action="append", required=True, metavar=("MODEL", "IMAGES"))
    parser.add_argument("--weights", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--pairs", type=int, default=48, help="view pairs of either kind (default: %(default)s)")
    args = parser.parse_args()
    photos = [image for name, image in read_photos(args.photos) if is_held_out(name)]
    mixes = [
        RandomMix[ViewPair]([(1.0, SyntheticSource(photos, SyntheticOptions(light=1.0), (STRIDE, OFFSET)))]),
        RandomMix[ViewPair](held_out_models(args.model)),
    ]
    rng = np.random.default_rng(4321)
    views = [[mix.sample(rng) for _ in range(args.pairs)] for mix in mixes]
    print("| weights | held-out photographs | held-out images of scenes |\n|---|---|---|")
    for file in args.weights:
        print(
            f"| {Path(file).parent.name} | " + " | ".join(f"{accuracy(file, v):.3f}" for v in views) + " |", flush=True
        )


if __name__ == "__main__":
    main()
