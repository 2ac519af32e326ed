"""D2D over your own dense descriptors: anything that gives a (B, D, h, w) map.

python examples/own_network.py photo.jpg
"""

import sys
from pathlib import Path

import torch

from posfeat_hloc.detection.d2d import score_map, top_k
from posfeat_hloc.images.decoding import read_image

network = torch.nn.Sequential(  # put yours here; this one has random weights
    torch.nn.Conv2d(1, 64, 7, stride=4, padding=3), torch.nn.ReLU(), torch.nn.Conv2d(64, 128, 5, padding=2)
).eval()
image = torch.tensor(read_image(Path(sys.argv[1]), grayscale=True).pixels)[None, None] / 255

with torch.inference_mode():
    dense = network(image)
    cells, scores = top_k(score_map(dense, radius=5, step=2)[0], k=1000)
keypoints = cells * 4  # this network's cell i is centred on pixel 4 i
print(f"{len(keypoints)} keypoints; the best at {keypoints[0].tolist()} with score {scores[0]:.2f}")
