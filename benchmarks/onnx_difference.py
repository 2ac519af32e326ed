"""How far an ONNX file is from the extractor it was made of, and how long both take, on one photograph.

python benchmarks/onnx_difference.py --image photo.jpg --feature posfeat-small
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from posfeat_hloc import confs, extractors
from posfeat_hloc.export.onnx import FEATURES, write_onnx
from posfeat_hloc.images.decoding import read_image
from posfeat_hloc.images.resampling import resize
from posfeat_hloc.networks.small import to_grey


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--feature", choices=FEATURES, default=FEATURES[0])
    parser.add_argument("--max-size", type=int, default=1024)
    parser.add_argument("--max-keypoints", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    import onnxruntime  # of the extra [onnx]: --help works without

    pixels = resize(read_image(args.image).pixels, args.max_size)
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    model = confs.extractors[args.feature]["model"] | {
        "precision": "fp32", "max_keypoints": args.max_keypoints, "spread": False,
    }  # fmt: skip
    extractor = extractors.create(model)
    seen = to_grey(image) if extractor.grayscale else image
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(args.feature, Path(folder) / "feature.onnx")
        session = onnxruntime.InferenceSession(Path(folder) / "feature.onnx", providers=["CPUExecutionProvider"])
    given = {
        "image": image.numpy(),
        "max_keypoints": np.array(args.max_keypoints),
        "min_score": np.array(0, np.float32),
    }
    seconds: list[list[float]] = [[], []]
    for _ in range(args.rounds):
        start = time.perf_counter()
        (wanted,) = extractor(seen)
        middle = time.perf_counter()
        places, descriptors, _ = session.run(None, given)
        seconds[0].append(middle - start)
        seconds[1].append(time.perf_counter() - middle)
    last = np.array([image.shape[3], image.shape[2]]) - 1
    away = np.linalg.norm(wanted.keypoints[:, None] - (places[0] + 1) / 2 * last, axis=2)
    nearest, there = away.argmin(axis=1), away.min(axis=1) < 0.01
    difference = np.abs(wanted.descriptors - descriptors[0][nearest])[there].max()
    print(
        f"{args.feature}, {last[0] + 1}x{last[1] + 1}: {len(wanted)} keypoints, {there.mean():.2%} found "
        f"within 0.01 px (the farthest {away.min(axis=1)[there].max():.5f} px, descriptors {difference:.6f}); "
        f"torch {statistics.median(seconds[0]):.2f} s, onnxruntime {statistics.median(seconds[1]):.2f} s"
    )


if __name__ == "__main__":
    main()
