"""Draw the points and cameras of COLMAP models, side by side, from one direction.

    python examples/plot_model.py d2d=results/sparse/0 sift=other/sparse/0 --output models.png

Needs matplotlib (`pip install "posfeat-hloc[plot]"`). Models are aligned to the first one.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pycolmap

from posfeat_hloc.sfm.models import read_model


def aligned(model: pycolmap.Reconstruction, reference: pycolmap.Reconstruction) -> pycolmap.Reconstruction:
    """Move a model onto another one by the centres of their common cameras."""
    centres = {i.name: i.projection_center() for i in reference.images.values() if i.has_pose}
    common = [i for i in model.images.values() if i.has_pose and i.name in centres]
    source = np.array([i.projection_center() for i in common])
    model.transform(pycolmap.estimate_sim3d(source, np.array([centres[i.name] for i in common])))
    return model


def draw(axes: plt.Axes, model: pycolmap.Reconstruction, title: str, frame: np.ndarray, limits: np.ndarray) -> None:
    """Points by the number of images that see them, cameras red; ``frame`` rows are right, down and forward."""
    points = np.array([p.xyz for p in model.points3D.values()]) @ frame.T
    seen_in = np.array([len({e.image_id for e in p.track.elements}) for p in model.points3D.values()])
    order = np.argsort(-points[:, 2])  # far ones first
    drawn = axes.scatter(
        points[order, 0], -points[order, 1], c=seen_in[order], s=2.5, lw=0, cmap="viridis", vmin=2, vmax=10
    )
    centres = np.array([i.projection_center() for i in model.images.values() if i.has_pose]) @ frame.T
    axes.scatter(centres[:, 0], -centres[:, 1], marker="^", c="crimson", s=18)
    axes.set(title=title, aspect="equal", xlim=limits[0], ylim=limits[1], xticks=[], yticks=[])
    axes.figure.colorbar(drawn, ax=axes, label="images that see a point", shrink=0.7)


def main() -> None:
    """Parse the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="TITLE=FOLDER")
    parser.add_argument("--output", type=Path, default=Path("models.png"))
    args = parser.parse_args()
    titles = [item.split("=", 1)[0] for item in args.models]
    models = [read_model(Path(item.split("=", 1)[1])) for item in args.models]
    models = [models[0], *(aligned(model, models[0]) for model in models[1:])]

    images = [i for i in models[0].images.values() if i.has_pose]
    rotations = np.array([i.cam_from_world().rotation.matrix() for i in images])
    frame = rotations[np.argmax(np.einsum("aij,bij->a", rotations, rotations))]  # the most average view
    points = np.array([p.xyz for p in models[0].points3D.values() if len(p.track.elements) > 2]) @ frame.T
    middle = np.median(points[:, :2], axis=0)
    reach = 3.5 * np.median(np.abs(points[:, :2] - middle), axis=0)  # leaves out what is seen far behind
    low, high = middle - reach, middle + reach
    limits = np.array([[low[0], high[0]], [-high[1], -low[1]]])

    figure, axes = plt.subplots(1, len(models), figsize=(6.2 * len(models), 4.4), squeeze=False, layout="constrained")
    for axis, title, model in zip(axes[0], titles, models, strict=True):
        text = f"{title}: {model.num_points3D()} points"
        draw(axis, model, text, frame, limits)
    figure.savefig(args.output, dpi=110)
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
