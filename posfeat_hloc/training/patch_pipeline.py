"""Patch descriptors (HardNet, SOSNet) trained from photographs and COLMAP models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from posfeat_hloc import weights
from posfeat_hloc.errors import ConfigurationError, ImageError, Option, PosfeatError
from posfeat_hloc.images.decoding import list_images, read_image
from posfeat_hloc.images.resampling import resize
from posfeat_hloc.networks.l2net import OFFSET, STRIDE
from posfeat_hloc.runtime.output import only_writer, write_atomically
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.runtime.reporter import QUIET, Reporter, reporting
from posfeat_hloc.training.colmap_views import ColmapOptions, ColmapSource
from posfeat_hloc.training.other_options import PatchTrainingOptions
from posfeat_hloc.training.patch_descriptors import PatchTrainer, TrainOptions
from posfeat_hloc.training.synthetic_homographies import SyntheticOptions, SyntheticSource
from posfeat_hloc.training.views import Image, RandomMix, Source, ViewPair, is_held_out


def train_patches(output: Path, args: PatchTrainingOptions, reporter: Reporter = QUIET) -> str:
    """Read the data, train to the last step, save ``weights.safetensors``; the same call resumes.

    Args:
        output: folder for checkpoint, log and weights.
        args: see :class:`PatchTrainingOptions`.
        reporter: hears what is done.

    Returns:
        SHA-256 of the weights.

    Raises:
        PosfeatError: for anything a user can fix.
    """
    with only_writer(output), reporting(reporter):
        return _train(output, args, reporter)


def _train(output: Path, args: PatchTrainingOptions, reporter: Reporter) -> str:
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
        raise ConfigurationError(Option("window", args.window), ": the normalisation window must be odd and positive")
    if not args.photos and not args.model:
        raise ConfigurationError(
            "nothing to train on: give ", Option("photos", "DIR"), ", ", Option("model", "MODEL IMAGES"), ", or both"
        )
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
            reporter.say(f"{model}: {len(source.pairs)} {'held-out' if held_out else 'training'} image pairs")
    if not sources[False] or not sources[True]:
        raise ConfigurationError("too few photographs to hold some out for validation; give at least 30")
    rng = np.random.default_rng(12345)
    held_out_mix = RandomMix(sources[True])
    validation = [held_out_mix.sample(rng) for _ in range(args.validation_pairs)]
    tensors = initial.tensors if initial else None
    trainer = PatchTrainer(options, RandomMix(sources[False]), validation, output, tensors)
    trainer.run(reporter.progress)
    network = trainer.network.eval()
    metadata = {
        "architecture": options.architecture,
        "window": str(options.window),
        "eps": str(options.eps),
        "form": options.form,
        "steps": str(options.steps),
    }
    path = output / "weights.safetensors"
    digest = weights.save(path, network.published(), metadata)
    metrics = trainer.validate()
    write_atomically(output / "metrics.json", json.dumps(metrics | {"sha256": digest}, indent=2) + "\n")
    return digest


def read_photos(folders: Sequence[Path]) -> list[tuple[str, Image]]:
    """Names and grey photographs of at most 1024 pixels; files that cannot be read are named and left out."""
    photos: list[tuple[str, Image]] = []  # two folders may use the same name
    for folder in folders:
        for name in Bar(list_images(folder), desc=f"read {folder.name}", unit="image"):
            try:
                photos.append((name, resize(read_image(folder / name, grayscale=True).pixels, 1024)))
            except ImageError as error:
                Bar.write(f"skipped: {error}")
    return photos
