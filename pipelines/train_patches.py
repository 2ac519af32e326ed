"""Train HardNet or SOSNet on photographs and COLMAP models.

    python -m pipelines.train_patches --photos photos --model sfm/sparse/0 photos_of_it --output runs/hardnet

Photographs give synthetic views; a COLMAP model gives crops around the observations of common 3D points.
A run that was stopped goes on when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from posfeat_hloc import weights
from posfeat_hloc.cli.exit_codes import exit_code
from posfeat_hloc.errors import ConfigurationError, ImageError, PosfeatError
from posfeat_hloc.images.decoding import list_images, read_image, resize
from posfeat_hloc.networks.l2net import OFFSET, STRIDE
from posfeat_hloc.runtime.output import only_writer, write_atomically
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.training.colmap_views import ColmapOptions, ColmapSource
from posfeat_hloc.training.patch_descriptors import PatchTrainer, TrainOptions
from posfeat_hloc.training.synthetic_homographies import SyntheticOptions, SyntheticSource
from posfeat_hloc.training.views import Image, RandomMix, Source, ViewPair, is_held_out


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, train, write the weights; returns the exit code."""
    args = _parser().parse_args(argv)
    resume = "the same command goes on from the last checkpoint, if there is one"
    return exit_code(lambda: _train_alone(args), args.output, resume)


def _train_alone(args: argparse.Namespace) -> bool:
    with only_writer(args.output):
        return train(args)


def train(args: argparse.Namespace) -> bool:
    """Read the data, train to the last step, save ``weights.safetensors``."""
    initial = weights.load(args.init) if args.init else None
    options = TrainOptions(
        architecture=args.architecture,
        form=args.form,
        steps=args.steps,
        pairs=args.pairs,
        points=args.points,
        learning_rate=args.learning_rate,
        window=args.window,
        seed=args.seed,
        start=initial.sha256 if initial else "random",
    )
    if args.window < 1 or args.window % 2 == 0:
        raise ConfigurationError(f"--window {args.window}: the normalisation window must be odd and positive")
    if not args.photos and not args.model:
        raise ConfigurationError("nothing to train on: give --photos DIR, --model MODEL IMAGES, or both")
    lattice = (STRIDE, OFFSET) if args.form == "dense" else None
    sources: dict[bool, list[tuple[float, Source[ViewPair]]]] = {True: [], False: []}
    if args.photos:
        photos = read_photos(args.photos)
        for held_out in (False, True):
            chosen = [image for name, image in photos if is_held_out(name) == held_out]
            if chosen:
                synthetic = SyntheticSource(chosen, SyntheticOptions(light=args.light), lattice)
                share = args.synthetic_share if args.model else 1.0
                sources[held_out].append((share, synthetic))
    for model, folder in args.model:
        share = (1 - args.synthetic_share if args.photos else 1.0) / len(args.model)
        names = list_images(Path(folder))
        for held_out in (False, True):
            keep = {name for name in names if is_held_out(name) == held_out}
            try:
                source = ColmapSource(Path(model), Path(folder), ColmapOptions(light=args.light / 2), keep)
            except PosfeatError:
                if not held_out:
                    raise
                continue  # too few held-out images in a small scene: it is only trained on
            sources[held_out].append((share, source))
            print(f"{model}: {len(source.pairs)} {'held-out' if held_out else 'training'} image pairs")
    if not sources[False] or not sources[True]:
        raise ConfigurationError("too few photographs to hold some out for validation; give at least 30")
    rng = np.random.default_rng(12345)
    held_out_mix = RandomMix(sources[True])
    validation = [held_out_mix.sample(rng) for _ in range(args.validation_pairs)]
    tensors = initial.tensors if initial else None
    trainer = PatchTrainer(options, RandomMix(sources[False]), validation, args.output, tensors)
    trainer.run()
    network = trainer.network.eval()
    metadata = {
        "architecture": options.architecture,
        "window": str(options.window),
        "eps": str(options.eps),
        "form": options.form,
        "steps": str(options.steps),
    }
    path = args.output / "weights.safetensors"
    digest = weights.save(path, network.published(), metadata)
    metrics = trainer.validate()
    write_atomically(args.output / "metrics.json", json.dumps(metrics | {"sha256": digest}, indent=2) + "\n")
    print(f"wrote {path} (SHA-256 {digest})")
    return True


def read_photos(folders: list[Path]) -> list[tuple[str, Image]]:
    """Names and grey photographs of at most 1024 pixels; files that cannot be read are named and left out."""
    photos: list[tuple[str, Image]] = []  # two folders may use the same name
    for folder in folders:
        for name in Bar(list_images(folder), desc=f"read {folder.name}", unit="image"):
            try:
                photos.append((name, resize(read_image(folder / name, grayscale=True).pixels, 1024)))
            except ImageError as error:
                Bar.write(f"skipped: {error}")
    return photos


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.train_patches",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--photos", type=Path, nargs="+", default=[], metavar="DIR", help="folders of single photographs")
    add("--model", nargs=2, action="append", default=[], metavar=("MODEL", "IMAGES"),
        help="a COLMAP model and the folder of its images; may be repeated")  # fmt: skip
    add("--output", type=Path, required=True, help="folder for checkpoint, log and weights.safetensors")
    add("--architecture", choices=["hardnet", "sosnet"], default=TrainOptions.architecture,
        help="triplet loss, or triplet loss and second-order similarity (default: %(default)s)")  # fmt: skip
    add("--form", choices=["dense", "patches"], default=TrainOptions.form,
        help="train the dense map that D2D reads, or 32x32 patches (default: %(default)s)")  # fmt: skip
    add("--init", metavar="NAME|FILE", help="start from these weights, of either architecture")
    add("--steps", type=int, default=TrainOptions.steps, help="optimiser steps (default: %(default)s)")
    add("--pairs", type=int, default=TrainOptions.pairs, help="view pairs in a batch (default: %(default)s)")
    add("--points", type=int, default=TrainOptions.points, help="points read from a pair (default: %(default)s)")
    add("--learning-rate", type=float, default=TrainOptions.learning_rate,
        help="peak rate of Adam (default: %(default)s)")  # fmt: skip
    add("--window", type=int, default=TrainOptions.window,
        help="local normalisation window in pixels, odd (default: %(default)s)")  # fmt: skip
    add("--synthetic-share", type=float, default=0.6,
        help="share of batches from single photographs when there are models too (default: %(default)s)")  # fmt: skip
    add("--light", type=float, default=1.0, help="strength of light changes, 0 to 1 (default: %(default)s)")
    add("--validation-pairs", type=int, default=48, help="held-out view pairs (default: %(default)s)")
    add("--seed", type=int, default=TrainOptions.seed, help="of weights and batches (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
