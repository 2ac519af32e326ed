"""Training: PoSFeat, descriptors, patch networks, and the packs of photographs that they learn from."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from posfeat_hloc.cli.arguments import add_options, add_quiet, chosen, reporter_of
from posfeat_hloc.cli.summary import Summary
from posfeat_hloc.runtime.reporter import Terminal
from posfeat_hloc.training.options import DescriptorTrainingOptions, PackOptions, PatchTrainingOptions, TrainingOptions

COMMON = ("stage", "init", "teacher", "backbone", "size", "steps", "batch", "device")
"""Options of ``train`` that the help lists first."""


class Train:
    """Train PoSFeat from posed images: a stage at a time, on your own scenes, on MegaDepth, or on rendered scenes.

        posfeat-hloc train --stage warmup   --data synthetic:photos --output runs/warmup
        posfeat-hloc train --stage describe --data colmap:scene synthetic:photos \\
            --init runs/warmup/weights.safetensors --output runs/describe
        posfeat-hloc train --stage detect   --data colmap:scene synthetic:photos \\
            --init runs/describe/weights.safetensors --output runs/detect
        posfeat-hloc sfm --images photos --feature posfeat --weights runs/detect/weights.safetensors

    The same command resumes a stopped run. On several GPUs, start it with
    torchrun --nproc_per_node N -m pipelines.train ...; --batch is per GPU.
    """

    RESUME = "run the same command again to resume from the last checkpoint"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The data and how it is trained."""
        add_data(parser)
        parser.add_argument("--output", type=Path, required=True, metavar="DIR",
            help="folder for checkpoint, log, images and weights.safetensors")  # fmt: skip
        add_options(parser, TrainingOptions, common=COMMON)

    @staticmethod
    def run(args: argparse.Namespace) -> Summary:
        """Train; the summary has the validation metrics."""
        from posfeat_hloc.training.pipeline import train

        result = train(args.data, args.output, chosen(args, TrainingOptions), Terminal(progress=True))
        lines = [
            *(f"  {name:<14}{value:.4f}" for name, value in result.metrics.items()),
            f"best weights: {result.weights}",
        ]
        return Summary("\n".join(lines) if result.chief else "", {"weights": result.weights, "metrics": result.metrics})


def add_data(parser: argparse.ArgumentParser) -> None:
    """``--data``."""
    parser.add_argument("--data", nargs="+", required=True, metavar="KIND:DIR",
        help="training data: colmap:DIR (with sparse/0 or sparse, and images); colmap:MODEL,IMAGES; megadepth:DIR "
        "(scenes in CAPS's layout); megadepth:DIR,SCENES (those named in a text file, one a line); synthetic:DIR "
        "(photographs)")  # fmt: skip


class TrainDescriptors:
    """Train dense descriptors for robustness to illumination, rotation and scale, on a pack of photographs and pairs.

        posfeat-hloc pack-views --photos photos/* --model sfm/church/sparse/0 church/images --output views.h5
        posfeat-hloc train-descriptors --pack views.h5 --init posfeat-small --output runs/descriptors
        posfeat-hloc train-descriptors --pack views.h5 --init posfeat-small --teacher disk-depth --output runs/taught
        posfeat-hloc sfm --images photos --feature posfeat-small --weights runs/descriptors/weights.safetensors

    The same command resumes a stopped run. A GPU is used if there is one.
    """

    RESUME = "the same command resumes from the last checkpoint, if there is one"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The packs and how they are trained on."""
        add = parser.add_argument
        add("--pack", type=Path, nargs="+", required=True, metavar="FILE", help="made by pack-views")
        add(
            "--output",
            type=Path,
            required=True,
            metavar="DIR",
            help="folder for checkpoint, log and weights.safetensors",
        )
        add_quiet(parser)
        common = ("network", "init", "teacher", "head", "steps", "device")
        add_options(parser, DescriptorTrainingOptions, common=common)

    @staticmethod
    def run(args: argparse.Namespace) -> Summary:
        """Train."""
        from posfeat_hloc.training.descriptor_pipeline import train_descriptors

        options = chosen(args, DescriptorTrainingOptions)
        digest, metrics = train_descriptors(args.pack, args.output, options, reporter_of(args))
        path = args.output / "weights.safetensors"
        text = f"wrote {path} (SHA-256 {digest}; {json.dumps(metrics)})"
        return Summary(text, {"weights": path, "sha256": digest, "metrics": metrics})


class PackViews:
    """Collect photographs and pairs of them for the training of descriptors, in one file.

        posfeat-hloc pack-views --photos photos/* --model sfm/church/sparse/0 church/images \\
            --fixed webcams/* --sessions monthly/* --output views.h5
        posfeat-hloc train-descriptors --pack views.h5 --network small --output runs/descriptors

    Single photographs give pairs of warped views. A COLMAP model gives pairs of photographs with common points and
    poses. The photographs of a fixed camera are aligned by homographies, along the best chain of pairs, so that noon
    and midnight are paired through the hours between. Sessions are photographs of nearly one view whose matches agree
    with one epipolar geometry.
    """

    RESUME = "run the same command again"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """What is packed."""
        parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the pack, e.g. views.h5")
        add_options(parser, PackOptions, common=("photos", "model", "fixed", "sessions", "max_size"))

    @staticmethod
    def run(args: argparse.Namespace) -> Summary:
        """Write the pack, and summarise its content."""
        from posfeat_hloc.training.packing import pack_views

        whole = pack_views(args.output, chosen(args, PackOptions), Terminal(progress=True))
        data = {"output": args.output, "photographs": len(whole.images), "pairs": len(whole.pairs)}
        return Summary(f"wrote {args.output}: {len(whole.images)} photographs, {len(whole.pairs)} pairs", data)


class TrainPatches:
    """Train HardNet or SOSNet on photographs and COLMAP models.

        posfeat-hloc train-patches --photos photos --model sfm/sparse/0 photos_of_it --output runs/hardnet

    Photographs give synthetic views; a COLMAP model gives crops around the observations of common 3D points.
    The same command resumes a stopped run.
    """

    RESUME = "run the same command again to resume from the last checkpoint"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The data and how it is trained."""
        parser.add_argument("--output", type=Path, required=True, metavar="DIR",
            help="folder for checkpoint, log and weights.safetensors")  # fmt: skip
        add_options(parser, PatchTrainingOptions, common=("photos", "model", "architecture", "init", "steps"))

    @staticmethod
    def run(args: argparse.Namespace) -> Summary:
        """Train."""
        from posfeat_hloc.training.patch_descriptors import train_patches

        digest = train_patches(args.output, chosen(args, PatchTrainingOptions), Terminal(progress=True))
        path = args.output / "weights.safetensors"
        return Summary(f"wrote {path} (SHA-256 {digest})", {"weights": path, "sha256": digest})
