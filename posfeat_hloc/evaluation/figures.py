"""The papers' images, of any photographs: saliency, landmarks of a model, matches by their errors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posfeat_hloc import confs, extractors, matchers
from posfeat_hloc.detection.d2d import absolute_saliency, relative_saliency
from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.evaluation import drawing
from posfeat_hloc.evaluation.homography import match_errors
from posfeat_hloc.evaluation.options import MatchPictureOptions
from posfeat_hloc.evaluation.sequences import read_homography
from posfeat_hloc.extract_features import extract_pixels
from posfeat_hloc.extractors.choice import choose_features
from posfeat_hloc.images.decoding import DecodedImage, read_image
from posfeat_hloc.images.resampling import resize
from posfeat_hloc.networks.l2net import MIN_SIZE, pixels_to_map
from posfeat_hloc.runtime.reporter import QUIET, Reporter
from posfeat_hloc.sfm.models import epipolar_distances, landmarks, read_model, registered_names
from posfeat_hloc.weights.loading import load_l2net


def draw_saliency(
    images: Sequence[Path], network: str = "hardnet", weights: str | None = None, radius: int = 5, max_size: int = 400
) -> drawing.Picture:
    """A row for each image: the image, S_AS, S_RS, S_D2D and both differences, cut at zero (D2D figure 3)."""
    described, _ = load_l2net(network, weights or network)
    rows = []
    for path in images:
        pixels = resize(read_image(path, grayscale=True).pixels, confs.RESIZE_MAX)
        if min(pixels.shape) < MIN_SIZE:
            raise ConfigurationError(f"{path}: {network} needs at least {MIN_SIZE} pixels a side")
        with torch.inference_mode():
            raw = described(torch.tensor(pixels)[None, None].float() / 255).float()
            maps = saliency_maps(raw, radius)
        shown = {name: drawing.heat_map(on_pixels(values, pixels.shape)) for name, values in maps.items()}
        panels = {path.name: np.repeat(pixels[..., None], 3, axis=2), **shown}
        small = {title: resize(picture, max_size) for title, picture in panels.items()}
        rows.append(drawing.side_by_side([drawing.titled(picture, title) for title, picture in small.items()]))
    return drawing.stacked(rows)


def draw_landmarks(
    models: Sequence[Path],
    images: Path,
    names: Sequence[str] = (),
    max_size: int = 800,
    reporter: Reporter = QUIET,
) -> drawing.Picture:
    """A row for each image, a column for each model: keypoints with a 3D point green, others red (PoSFeat figure 1)."""
    read = [read_model(path) for path in models]
    common = sorted(set.intersection(*(set(registered_names(model)) for model in read)))
    if not common:
        raise ConfigurationError(f"no image has a pose in {' and in '.join(str(path) for path in models)}")
    shown = names or [common[i] for i in np.linspace(0, len(common) - 1, min(3, len(common))).astype(int)]
    rows = []
    for name in shown:
        panels = []
        for path, model in zip(models, read, strict=True):
            keypoints, is_landmark = landmarks(model, name)
            order = np.argsort(is_landmark, kind="stable")  # landmarks on top
            # as stored: a model's pixels are not turned
            stored = cv2.imread(str(images / name), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
            if stored is None:
                raise ConfigurationError(
                    f"{images / name}: cannot be read as an image; give the model's ", Option("images")
                )
            picture = resize(np.asarray(stored[..., ::-1], np.uint8), max_size)
            scale = picture.shape[1] / stored.shape[1]
            colors = np.where(is_landmark[order, None], drawing.RIGHT, drawing.WRONG)
            drawn = drawing.draw_points(picture, (keypoints[order] + 0.5) * scale - 0.5, colors, 1)
            text = f"{path}: {name}: {is_landmark.sum()} of {len(keypoints)} keypoints are landmarks"
            reporter.say(text)
            panels.append(drawing.titled(drawn, text))
        rows.append(drawing.side_by_side(panels))
    return drawing.stacked(rows)


def draw_matches(images: tuple[Path, Path], args: MatchPictureOptions, reporter: Reporter = QUIET) -> drawing.Picture:
    """Matched keypoints of two images, colored by their errors (PoSFeat figure 6)."""
    (choice,) = choose_features(
        [args.feature], [f"{args.feature.split(':')[0]}={args.weights}"] if args.weights else []
    )
    if choice.conf is None:
        raise ConfigurationError(
            Option("feature"), ": matches are drawn for features that are extracted, not for a feature file"
        )
    matcher = args.matcher or confs.default_matchers[args.feature.split(":")[0]]
    extractor = extractors.create(choice.conf["model"])
    first, second = (read_image(path) for path in images)
    preprocessing = choice.conf["preprocessing"]
    features0, features1 = (extract_pixels(extractor, image.pixels, preprocessing) for image in (first, second))
    sizes = ((first.pixels.shape[1], first.pixels.shape[0]), (second.pixels.shape[1], second.pixels.shape[0]))
    matching = matchers.create(confs.matchers[matcher]["model"])
    pairs = matchers.match(matching, features0, features1, sizes=sizes).pairs()
    points0, points1 = features0.keypoints[pairs[:, 0]], features1.keypoints[pairs[:, 1]]
    errors = _errors(images, args, first.to_stored(points0), second.to_stored(points1))
    within = float(np.mean(errors <= args.right)) if len(errors) else 0.0
    kind = "homography" if args.homography else "epipolar distance"
    text = f"{args.feature}: {len(pairs)} matches, {within:.1%} within {args.right:g} px ({kind})"
    reporter.say(text)
    chosen = np.flatnonzero(errors <= args.right) if args.only_right else np.arange(len(errors))
    chosen = np.random.default_rng(0).permutation(chosen)[: args.most]
    chosen = chosen[np.argsort(-np.nan_to_num(errors[chosen], nan=np.inf))]  # the best on top
    picture0, shown0 = _reduced(first, points0[chosen], args.max_size)
    picture1, shown1 = _reduced(second, points1[chosen], args.max_size)
    colors = drawing.error_colors(errors[chosen], args.right)
    drawn = drawing.draw_matches(picture0, picture1, shown0, shown1, colors, args.lines)
    return drawing.titled(drawing.with_error_bar(drawn, args.right), text)


def _errors(
    images: tuple[Path, Path], args: MatchPictureOptions, points0: NDArray[np.float32], points1: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Of matched pixels of the files as stored, by the homography or by the model."""
    if args.homography:
        same = np.stack([np.arange(len(points0), dtype=np.int64)] * 2, axis=1)
        return match_errors(points0, points1, same, read_homography(args.homography))
    if args.model is None:
        raise ConfigurationError("no ground truth; give ", Option("homography"), " or ", Option("model"))
    model = read_model(args.model)
    name0, name1 = (_name_in(path, registered_names(model)) for path in images)
    return epipolar_distances(model, name0, name1, points0, points1)


def _reduced(
    image: DecodedImage, points: NDArray[np.float32], max_size: int
) -> tuple[drawing.Picture, NDArray[np.float64]]:
    """An image no larger than a panel, and its points there."""
    picture = resize(image.pixels, max_size)
    return picture, (points.astype(np.float64) + 0.5) * (picture.shape[1] / image.pixels.shape[1]) - 0.5


def _name_in(path: Path, names: Sequence[str]) -> str:
    """The model's name of an image file: the longest end of its path that is one."""
    parts = path.resolve().parts
    ends = ["/".join(parts[i:]) for i in range(len(parts))]
    return next((end for end in ends if end in names), path.name)


def write_picture(path: Path, picture: drawing.Picture) -> None:
    """Write an image, at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    try:
        written = cv2.imwrite(str(partial), picture[..., ::-1])
    except cv2.error:
        written = False
    if not written:
        raise ConfigurationError(f"{path}: cannot be written; give a name that ends in .png or .jpg")
    os.replace(partial, path)


_TINY = float(np.finfo(np.float32).tiny)  # a flat map stays flat


def saliency_maps(raw: Tensor, radius: int = 5) -> dict[str, NDArray[np.float32]]:
    """Both saliencies scaled to [0, 1], their product, scaled as well, and their differences, cut at zero.

    The two differences are divided by the larger maximum of both, or they would be dark.

    Args:
        raw: ``(1, D, h, w)`` descriptors before L2 normalisation.
        radius: r_RS in cells.

    Returns:
        title -> ``(h, w)``, in the order of the figure.
    """
    absolute, relative = absolute_saliency(raw)[0].numpy(), relative_saliency(raw, radius)[0].numpy()
    s_as, s_rs = _to_unit(absolute), _to_unit(relative)
    difference = (s_as - s_rs) / max(float(np.abs(s_as - s_rs).max()), _TINY)
    return {
        "S_AS": s_as,
        "S_RS": s_rs,
        "S_D2D": _to_unit(absolute * relative),
        "max(0, S_AS - S_RS)": np.maximum(0, difference),
        "max(0, S_RS - S_AS)": np.maximum(0, -difference),
    }


def on_pixels(values: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """HardNet's or SOSNet's cells ``(h, w)`` at pixels ``(H, W)``, bilinearly; NaN where the map does not reach."""
    corner, next_to_it = (pixels_to_map(torch.tensor([float(p)])).item() for p in (0, 1))
    step = next_to_it - corner
    to_cell = np.array([[step, 0, corner], [0, step, corner]])
    size, flags = (shape[1], shape[0]), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    placed = cv2.warpAffine(values, to_cell, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    y, x = (np.arange(pixels) * step + corner for pixels in shape)
    inside = ((y >= 0) & (y <= values.shape[0] - 1))[:, None] & ((x >= 0) & (x <= values.shape[1] - 1))
    return np.asarray(np.where(inside, placed, np.nan), np.float32)


def _to_unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = float(values.min()), float(values.max())
    return np.asarray((values - low) / max(high - low, _TINY), np.float32)
