"""Adapt PoSFeat to one scene: its images and their poses are all it needs.

    python -m pipelines.sfm --images photos --output scene
    python examples/finetune_on_my_scene.py --model scene/sparse/0 --images photos --weights start.safetensors
    python -m pipelines.sfm --images photos --feature posfeat --weights scene_posfeat/detect/weights.safetensors

Both networks are trained for a while on pairs of the model, first the descriptors, then the keypoints on top of them.
Stop it whenever you like; the same command goes on.
"""

import argparse
import sys
from pathlib import Path

from pipelines import train

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", type=Path, required=True, help="folder of a COLMAP model of the scene")
parser.add_argument("--images", type=Path, required=True, help="its images")
parser.add_argument("--weights", required=True, help="PoSFeat weights to start from")
parser.add_argument("--output", type=Path, default=Path("scene_posfeat"), help="default: %(default)s")
parser.add_argument("--steps", type=int, default=500, help="of each stage (default: %(default)s)")
parser.add_argument("--size", default="640x480", help="of the training images (default: %(default)s)")
parser.add_argument("--batch", default="2", help="image pairs of a step (default: %(default)s)")
args = parser.parse_args()

start = args.weights
for stage, rate in (("describe", "1e-4"), ("detect", "1e-3")):
    folder = args.output / stage
    command = ["--stage", stage, "--data", f"colmap:{args.model},{args.images}", "--init", str(start)]
    command += ["--steps", str(args.steps), "--validate-every", str(max(1, args.steps // 5)), "--batch", args.batch]
    command += ["--learning-rate", rate, "--size", args.size, "--output", str(folder)]
    if code := train.main(command):
        sys.exit(code)
    start = folder / "weights.safetensors"
print(f"scene-adapted weights: {start}")
