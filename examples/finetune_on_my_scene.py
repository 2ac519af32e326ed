"""Adapt PoSFeat to one scene: its images and their poses are all it needs.

    posfeat-hloc sfm --images photos --output scene
    python examples/finetune_on_my_scene.py --model scene/sparse/0 --images photos
    posfeat-hloc sfm --images photos --feature posfeat-small --weights scene_posfeat/detect/weights.safetensors

Both networks are trained for a while on pairs of the model, first the descriptors, then the keypoints on top of them.
Stop it whenever you like; the same command resumes.
"""

import argparse
from pathlib import Path
from typing import Any

from posfeat_hloc.runtime.reporter import Terminal
from posfeat_hloc.training.options import TrainingOptions
from posfeat_hloc.training.pipeline import train


def adapt(model: Path, images: Path, start: str, output: Path, **options: Any) -> Path:
    """Train both stages; returns the adapted weights. Options are those of TrainingOptions."""
    for stage, rate in (("describe", 1e-4), ("detect", 3e-5)):  # as the bundled weights were trained
        own = {"optimizer": "adam", "sigma": "official-code", "min_variance": 1e-5, "learning_rate": rate}
        chosen = TrainingOptions(stage=stage, init=start, **own | options)
        start = str(train([f"colmap:{model},{images}"], output / stage, chosen, Terminal(progress=True)).weights)
    return Path(start)


def main() -> None:
    """Read the command line, and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a COLMAP model of the scene")
    parser.add_argument("--images", type=Path, required=True, help="its images")
    parser.add_argument("--weights", default="posfeat-small", help="PoSFeat to start from (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("scene_posfeat"), help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=500, help="of each stage (default: %(default)s)")
    args = parser.parse_args()
    often = max(1, args.steps // 5)
    adapted = adapt(args.model, args.images, args.weights, args.output, steps=args.steps, validate_every=often)
    print(f"scene-adapted weights: {adapted}")


if __name__ == "__main__":
    main()
