"""Models and networks for other programs."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import get_args

from posfeat_hloc import confs
from posfeat_hloc.cli.arguments import add_options, add_quiet, chosen
from posfeat_hloc.cli.summary import Summary
from posfeat_hloc.sfm.options import ExportFormat, ExportOptions


class Export:
    """Write a model for other programs.

    posfeat-hloc export outputs/photos --format transforms
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The options of ``export``."""
        add = parser.add_argument
        add("model", type=Path, metavar="MODEL", help="output folder of sfm, or a COLMAP model")
        formats = get_args(ExportFormat)
        add("--format", nargs="+", choices=formats, default=list(_DEFAULT), metavar="|".join(formats),
            help="COLMAP's text files, points for viewers, nerfstudio's transforms.json, or undistorted photographs "
            f"with their model for Gaussian splatting and dense stereo (default: {' '.join(_DEFAULT)})")  # fmt: skip
        add("--output", type=Path, metavar="DIR", help="default: MODEL/export")
        add("--images", type=Path, metavar="DIR",
            help="its photographs, for transforms and undistorted (default: where sfm found them)")  # fmt: skip
        add_quiet(parser)
        add_options(parser, ExportOptions, leave_out=("progress",))

    @staticmethod
    def run(args: argparse.Namespace) -> Summary:
        """Write a model in other formats, and print what was written."""
        from posfeat_hloc.export import export, model_and_folders

        model, images, masks = model_and_folders(args.model, args.images, args.masks)
        options = chosen(args, ExportOptions, masks=masks, progress=not args.quiet)
        written: dict[str, list[Path]] = {}
        for name in dict.fromkeys(args.format):  # each is printed before the next one may fail
            written[name] = []
            for path in export(model, [name], args.output or args.model / "export", images, options):
                print(path, flush=True)
                written[name].append(path)
        return Summary("", {"written": written})


_DEFAULT = ("text", "ply", "transforms")


class ExportOnnx:
    """Write a feature as an ONNX file, for COLMAP, C++ and phones.

    posfeat-hloc export-onnx posfeat-small.onnx
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The options of ``export-onnx``."""
        add = parser.add_argument
        add("output", type=Path, metavar="FILE", help="the file to write, e.g. posfeat-small.onnx")
        add("--feature", choices=confs.ONNX_FEATURES, default=confs.DEFAULT_FEATURE, help="default: %(default)s")
        add(
            "--matcher", type=Path, metavar="FILE",
            help="also write COLMAP's brute-force matcher, for builds that cannot download it (Debian's)",
        )  # fmt: skip
        add("--weights", metavar="NAME_OR_FILE", help="other weights of the same network")

    @staticmethod
    def run(args: argparse.Namespace) -> Summary:
        """Write the file, and print the commands of COLMAP that use it."""
        from posfeat_hloc.export.onnx import write_onnx
        from posfeat_hloc.export.onnx_matcher import write_onnx_matcher

        write_onnx(args.feature, args.output, args.weights)
        matcher = ""
        if args.matcher:
            write_onnx_matcher(args.matcher)
            matcher = f" \\\n    --AlikedMatching.bruteforce_model_path {shlex.quote(str(args.matcher.resolve()))}"
        size = args.output.stat().st_size
        cosine = MIN_COSSIM.get(args.feature, -1)
        keypoints = confs.extractors[args.feature]["model"]["max_keypoints"]
        path = shlex.quote(str(args.output.resolve()))
        commands = COMMANDS.format(path=path, keypoints=keypoints, cosine=cosine, matcher=matcher)
        text = f"{args.output}: {args.feature}, {size / 1e6:.1f} MB\n\n{commands}"
        data = {"output": args.output, "matcher": args.matcher, "feature": args.feature}
        return Summary(text, data | {"bytes": size, "min_cossim": cosine})


MIN_COSSIM = {"posfeat-small": 0.6}
"""Feature -> the least cosine of a match for COLMAP's matcher (docs/onnx.md); others take any, as this package does."""


COMMANDS = """\
with a COLMAP 4 that was built with ONNX (docs/onnx.md), in place of ALIKED's network:

colmap feature_extractor --database_path database.db --image_path photos \\
    --FeatureExtraction.type ALIKED_N16ROT --AlikedExtraction.n16rot_model_path {path} \\
    --AlikedExtraction.max_num_features {keypoints} --AlikedExtraction.min_score 0
colmap exhaustive_matcher --database_path database.db \\
    --FeatureMatching.type ALIKED_BRUTEFORCE --AlikedMatching.brute_force_min_cossim {cosine:g}{matcher}
colmap mapper --database_path database.db --image_path photos --output_path sparse"""
