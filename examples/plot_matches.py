"""Match two photographs and draw the matches: green ones agree on one epipolar geometry, red ones do not.

python examples/plot_matches.py a.jpg b.jpg --feature posfeat-small --output matches.png
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

from posfeat_hloc import confs, extractors, matchers
from posfeat_hloc.evaluation import drawing
from posfeat_hloc.images.decoding import read_image
from posfeat_hloc.images.resampling import resize


def main() -> None:
    """Parse the command line, extract, match, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs=2, type=Path)
    parser.add_argument("--feature", default="posfeat-small", choices=list(confs.extractors))
    parser.add_argument("--weights", help="other weights than the feature's own")
    parser.add_argument("--max-size", type=int, default=800, help="longest side in pixels (default: %(default)s)")
    parser.add_argument("--max-keypoints", type=int, default=2048)
    parser.add_argument("--lines", type=int, default=300, help="matches drawn at most (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("matches.png"))
    args = parser.parse_args()

    model = confs.extractors[args.feature]["model"] | {"max_keypoints": args.max_keypoints}
    extractor = extractors.create(model | ({"weights": args.weights} if args.weights else {}))
    pictures = [resize(read_image(path).pixels, args.max_size) for path in args.images]
    features = []
    for picture in pictures:
        image = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
        features.append(extractor(image.mean(dim=1, keepdim=True) if extractor.grayscale else image)[0])
    matcher = matchers.create(confs.matchers[confs.default_matchers[args.feature]]["model"])
    pairs = matchers.match(matcher, *features).pairs()
    points0, points1 = features[0].keypoints[pairs[:, 0]], features[1].keypoints[pairs[:, 1]]
    agree = np.zeros(len(pairs), bool)
    if len(pairs) >= 8:
        _, mask = cv2.findFundamentalMat(points0, points1, cv2.USAC_MAGSAC, 1.0, 0.999, 10_000)
        agree = agree if mask is None else mask.ravel().astype(bool)

    shown = np.random.default_rng(0).permutation(len(pairs))[: args.lines]
    shown = shown[np.argsort(agree[shown])]  # the right ones on top
    colors = np.where(agree[shown, None], drawing.RIGHT, drawing.WRONG)
    canvas = drawing.draw_matches(*pictures, points0[shown], points1[shown], colors)
    if not cv2.imwrite(str(args.output), canvas[..., ::-1]):
        raise SystemExit(f"{args.output}: cannot be written")
    counts = " and ".join(str(len(f)) for f in features)
    print(f"{counts} keypoints, {len(pairs)} matches, {agree.sum()} agree; {args.output}")


if __name__ == "__main__":
    main()
