"""Write a feature as an ONNX file, for COLMAP, C++ and phones.

posfeat-hloc export-onnx posfeat-small.onnx
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from posfeat_hloc import confs

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


def run(args: argparse.Namespace) -> bool:
    """Write the file, and print the commands of COLMAP that use it."""
    from posfeat_hloc.export.onnx import write_onnx
    from posfeat_hloc.export.onnx_matcher import write_onnx_matcher

    write_onnx(args.feature, args.output, args.weights)
    matcher = ""
    if args.matcher:
        write_onnx_matcher(args.matcher)
        matcher = f" \\\n    --AlikedMatching.bruteforce_model_path {shlex.quote(str(args.matcher.resolve()))}"
    print(f"{args.output}: {args.feature}, {args.output.stat().st_size / 1e6:.1f} MB\n")
    cosine = MIN_COSSIM.get(args.feature, -1)
    keypoints = confs.extractors[args.feature]["model"]["max_keypoints"]
    path = shlex.quote(str(args.output.resolve()))
    print(COMMANDS.format(path=path, keypoints=keypoints, cosine=cosine, matcher=matcher))
    return True
