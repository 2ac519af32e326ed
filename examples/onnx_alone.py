"""Keypoints and matches of two photographs by onnxruntime alone: no PyTorch, none of this package.

python -m posfeat_hloc export-onnx posfeat-small.onnx
python examples/onnx_alone.py posfeat-small.onnx a.jpg b.jpg
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image

LIMIT, SIDE = np.array(2048), 1024
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])


def features(path):
    """Pixels (x, y) of the photograph, and descriptors."""
    photograph = Image.open(path).convert("RGB")
    scale = min(1, SIDE / max(photograph.size))
    pixels = np.asarray(photograph.resize([round(side * scale) for side in photograph.size]), np.float32) / 255
    image = pixels.transpose(2, 0, 1)[None]
    inputs = {"image": image, "max_keypoints": LIMIT, "min_score": np.array(0, np.float32)}
    keypoints, descriptors, _ = session.run(None, inputs)
    last = np.array([image.shape[3], image.shape[2]]) - 1  # -1 and 1 are the centres of the first and the last pixel
    return ((keypoints[0] + 1) / 2 * last + 0.5) / scale - 0.5, descriptors[0]


(keypoints0, descriptors0), (keypoints1, descriptors1) = features(sys.argv[2]), features(sys.argv[3])
cosines = descriptors0 @ descriptors1.T
best0, best1 = cosines.argmax(axis=1), cosines.argmax(axis=0)
mutual = np.flatnonzero(best1[best0] == np.arange(len(best0)))
print(f"{len(keypoints0)} and {len(keypoints1)} keypoints, {len(mutual)} mutual matches; the first three:")
for i in mutual[:3]:
    print(keypoints0[i].round(1), "->", keypoints1[best0[i]].round(1), f"cosine {cosines[i, best0[i]]:.2f}")
