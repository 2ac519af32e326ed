"""Adapt PoSFeat to one scene: its images and their poses are all it needs.

    python -m pipelines.sfm --images photos --output scene
    python examples/finetune_on_my_scene.py --model scene/sparse/0 --images photos
    python -m pipelines.sfm --images photos --feature posfeat-small --weights scene_posfeat/detect/weights.safetensors

Both networks are trained for a while on pairs of the model, first the descriptors, then the keypoints on top of them.
Stop it whenever you like; the same command goes on. Further options go to pipelines.train as they are (--device,
--size, --batch, --workers, ...).
"""

import argparse
import sys
from pathlib import Path

from pipelines import train


def main() -> int:
    """Run both stages; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a COLMAP model of the scene")
    parser.add_argument("--images", type=Path, required=True, help="its images")
    parser.add_argument("--weights", default="posfeat-small", help="PoSFeat to start from (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("scene_posfeat"), help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=500, help="of each stage (default: %(default)s)")
    args, further = parser.parse_known_args()

    start = args.weights
    for stage, rate in (("describe", "1e-4"), ("detect", "3e-5")):  # as the bundled weights were trained
        folder = args.output / stage
        command = ["--stage", stage, "--data", f"colmap:{args.model},{args.images}", "--init", str(start)]
        command += ["--steps", str(args.steps), "--validate-every", str(max(1, args.steps // 5))]
        command += ["--optimizer", "adam", "--sigma", "repository", "--min-variance", "1e-5"]
        command += ["--learning-rate", rate, "--output", str(folder), *further]
        if code := train.main(command):
            return code
        start = folder / "weights.safetensors"
    print(f"scene-adapted weights: {start}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
