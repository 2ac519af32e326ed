"""Points and cameras of a model: an interactive figure for the page, and a PNG."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pycolmap
from numpy.typing import NDArray
from plotly.io import to_html

from posfeat_hloc.images.listing import natural_order
from posfeat_hloc.report.charts import BLUE, GREY, as_picture, new_figure
from posfeat_hloc.report.page import Interactive, Picture

Array = NDArray[np.float64]

POINT_SIZES = (3.2, 2.2)
"""Diameter of a drawn point in pixels, for few points and for thousands."""

MAX_POINTS = 20_000
"""Points drawn at most; chosen at random, always the same ones."""


@dataclass(frozen=True)
class Cameras:
    """Cameras of one kind.

    Attributes:
        label: in the legend.
        names: of the images.
        centres: ``(N, 3)``.
        rotations: ``(N, 3, 3)`` world to camera.
        color: of the frusta.
    """

    label: str
    names: list[str]
    centres: Array
    rotations: Array
    color: str = BLUE

    @classmethod
    def of_model(cls, model: pycolmap.Reconstruction, label: str = "cameras") -> Cameras:
        """All cameras with a pose."""
        images = sorted(
            (image for image in model.images.values() if image.has_pose), key=lambda image: natural_order(image.name)
        )
        poses = {image.name: image.cam_from_world() for image in images}
        return cls.of_poses(poses, label)

    @classmethod
    def of_poses(cls, poses: dict[str, pycolmap.Rigid3d], label: str, color: str = BLUE) -> Cameras:
        """Cameras with these poses, world to camera."""
        centres = np.array([pose.inverse().translation for pose in poses.values()]).reshape(-1, 3)
        rotations = np.array([pose.rotation.matrix() for pose in poses.values()]).reshape(-1, 3, 3)
        return cls(label, list(poses), centres, rotations, color)


@dataclass(frozen=True)
class Scene:
    """What is drawn, rotated so that z is up according to the mean orientation of the cameras.

    Attributes:
        points: ``(N, 3)``.
        colors: ``(N, 3)`` uint8.
        total: points of the model.
        groups: cameras.
        names: of the images of the model.
        seen: for each point, the images that observe it, as indices of ``names``.
    """

    points: Array
    colors: NDArray[np.uint8]
    total: int
    groups: Sequence[Cameras]
    names: list[str] = field(default_factory=list)
    seen: list[list[int]] = field(default_factory=list)


def make_scene(model: pycolmap.Reconstruction, groups: Sequence[Cameras]) -> Scene:
    """Choose the points to draw, and rotate the scene upright.

    Points far outside the bounding box of nearly all others are left out, because the rest would become tiny.
    """
    points = np.array([point.xyz for point in model.points3D.values()]).reshape(-1, 3)
    colors = np.array([point.color for point in model.points3D.values()], np.uint8).reshape(-1, 3)
    total, chosen = len(points), np.arange(0)
    shown = [group for group in groups if group.names]
    frame = upright(np.concatenate([group.rotations for group in shown])) if shown else np.eye(3)
    centres = np.concatenate([group.centres for group in shown]) if shown else np.zeros((0, 3))
    if total:
        low, high = np.percentile(points, (2, 98), axis=0)
        if len(centres):
            low, high = np.minimum(low, centres.min(axis=0)), np.maximum(high, centres.max(axis=0))
        margin = 0.15 * (high - low)
        inside = np.flatnonzero(((points >= low - margin) & (points <= high + margin)).all(axis=1))
        chosen = np.random.default_rng(0).permutation(inside)[:MAX_POINTS]
        points, colors = points[chosen], colors[chosen]
    rotated = [Cameras(g.label, g.names, g.centres @ frame.T, g.rotations @ frame.T, g.color) for g in shown]
    names, seen = _observers(model, chosen)
    return Scene(points @ frame.T, colors, total, rotated, names, seen)


def _observers(model: pycolmap.Reconstruction, chosen: NDArray[np.int64]) -> tuple[list[str], list[list[int]]]:
    """Names of all images, and for each chosen point the images that observe it."""
    where = {number: index for index, number in enumerate(model.images)}
    points = list(model.points3D.values())
    seen = [sorted({where[e.image_id] for e in points[i].track.elements if e.image_id in where}) for i in chosen]
    return [image.name for image in model.images.values()], seen


def upright(rotations: Array) -> Array:
    """``(3, 3)``: from the world to x right, y forward, z up, by the mean of the cameras' axes ``(N, 3, 3)``."""
    up = -rotations[:, 1].sum(axis=0)
    if np.linalg.norm(up) < 1e-9:
        return np.eye(3)
    up = up / np.linalg.norm(up)
    forward = rotations[:, 2].sum(axis=0)
    forward = forward - (forward @ up) * up
    if np.linalg.norm(forward) < 1e-9 * len(rotations):  # cameras all around
        forward = np.linalg.svd(up[None])[2][1]
    forward = forward / np.linalg.norm(forward)
    return np.stack([np.cross(forward, up), forward, up])


def frusta(cameras: Cameras, size: float) -> Array:
    """``(N, 11, 3)``: the edges of each camera's pyramid, ``size`` half as wide as the image, as one stroke."""
    corners = np.array([[0, 0, 0], [-1, -0.7, 1.4], [1, -0.7, 1.4], [1, 0.7, 1.4], [-1, 0.7, 1.4]]) * size
    stroke = corners[[0, 1, 2, 0, 3, 4, 0, 1, 4, 3, 2]]
    return np.asarray(np.einsum("nij,ki->nkj", cameras.rotations, stroke) + cameras.centres[:, None], np.float64)


def interactive(scene: Scene, div: str, anchors: Mapping[str, str] | None = None) -> Interactive:
    """The interactive scene, with the names of the images at their cameras.

    Args:
        scene: see :func:`make_scene`.
        div: id of its element.
        anchors: image -> id of its thumbnail in the page, for the links of a point that is clicked.
    """
    x, y, z = scene.points.astype(np.float32).T
    colors = [f"rgb({r},{g},{b})" for r, g, b in scene.colors.tolist()]
    figure = go.Figure(
        go.Scatter3d(x=x, y=y, z=z, mode="markers", name="points", hoverinfo="none", customdata=scene.seen,
                     marker={"size": POINT_SIZES[len(scene.points) > 5000], "color": colors, "line": {"width": 0}})
    )  # fmt: skip
    size = _camera_size(scene)
    for group in scene.groups:
        gaps = np.full((len(group.names), 1, 3), np.nan)
        line = np.concatenate([frusta(group, size), gaps], axis=1).reshape(-1, 3).astype(np.float32)
        figure.add_scatter3d(x=line[:, 0], y=line[:, 1], z=line[:, 2], mode="lines", hoverinfo="skip",
                             line={"color": group.color, "width": 2}, showlegend=False)  # fmt: skip
        centres = group.centres.astype(np.float32)
        figure.add_scatter3d(x=centres[:, 0], y=centres[:, 1], z=centres[:, 2], mode="markers", text=group.names,
                             hoverinfo="text", name=group.label,
                             marker={"size": 3.5, "color": group.color})  # fmt: skip
    everything = np.concatenate([scene.points, *(group.centres for group in scene.groups)])
    low, high = everything.min(axis=0) - 2 * size, everything.max(axis=0) + 2 * size
    axes = {f"{axis}axis": {"visible": False, "range": [low[i], high[i]]} for i, axis in enumerate("xyz")}
    reach = float((high - low).max())
    middle, eye = _viewpoint(scene, low, high)
    figure.update_layout(
        height=520, margin={"l": 0, "r": 0, "t": 0, "b": 0}, paper_bgcolor="rgba(0,0,0,0)",
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#94a3b8", "activecolor": BLUE},
        legend={"x": 0.01, "y": 0.99, "bgcolor": "rgba(128,128,128,0.15)", "itemsizing": "constant"},
        font={"color": GREY},
        scene={**axes, "aspectmode": "manual", "aspectratio": _xyz((high - low) / reach), "dragmode": "orbit",
               "camera": {"center": _xyz(middle), "eye": _xyz(eye), "up": {"x": 0, "y": 0, "z": 1}}},
    )  # fmt: skip
    shown = (
        f"{len(scene.points)} of {scene.total} points" if len(scene.points) < scene.total else f"{scene.total} points"
    )
    farther = {"center": _xyz(middle), "eye": _xyz(middle + 1.35 * (eye - middle)), "up": {"x": 0, "y": 0, "z": 1}}
    narrow = f"if (window.innerWidth < 700) Plotly.relayout('{div}', {{'scene.camera': {json.dumps(farther)}}});"
    return Interactive(
        plotly_html(figure, div, tools=True, script=narrow + _links(scene, div, anchors or {})),
        f"Drag to rotate, scroll to zoom; click a point to see its images. {shown}; cameras show their names.",
    )


def _links(scene: Scene, div: str, anchors: Mapping[str, str]) -> str:
    """JavaScript: a click on a point shows its images."""
    known = {name: anchors[name] for name in scene.names if name in anchors}
    texts = [json.dumps(part).replace("<", "\\u003c") for part in (div, scene.names, known)]
    return f" showImagesOfPoints({', '.join(texts)});"


def _viewpoint(scene: Scene, low: Array, high: Array) -> tuple[Array, Array]:
    """Target and position of the viewer, above and behind the cameras; the longest side of the box is 1."""
    shown = np.concatenate(
        [np.percentile(part, (5, 95), axis=0) for part in (scene.points, *(group.centres for group in scene.groups))
         if len(part)]
    )  # fmt: skip
    first, last = shown.min(axis=0), shown.max(axis=0)
    middle = ((first + last) / 2 - (low + high) / 2) / (high - low).max()
    radius = np.linalg.norm(last - first) / 2 / (high - low).max()
    direction = np.array([-0.25, -1.0, 0.45])
    return middle, middle + 2.3 * radius * direction / np.linalg.norm(direction)


def _xyz(vector: Array) -> dict[str, float]:
    return dict(zip("xyz", vector.tolist(), strict=True))


def picture(scene: Scene, path: Path) -> Picture:
    """The scene from above and behind, as PNG."""
    figure = new_figure(7.2, 4.6)
    axes = figure.subplots()
    tilt = np.radians(25)
    view = np.array([[1, 0, 0], [0, np.sin(tilt), np.cos(tilt)], [0, np.cos(tilt), -np.sin(tilt)]])
    seen = scene.points @ view.T
    order = np.argsort(-seen[:, 2])
    axes.scatter(seen[order, 0], seen[order, 1], c=scene.colors[order] / 255, s=9 if len(seen) < 5000 else 3, lw=0)
    size = _camera_size(scene)
    for group in scene.groups:
        for line in frusta(group, size) @ view.T:
            axes.plot(line[:, 0], line[:, 1], color=group.color, lw=0.7)
        axes.scatter([], [], c=group.color, s=14, label=f"{group.label} ({len(group.names)})")
    axes.set(aspect="equal", xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if scene.groups:
        axes.legend(frameon=False, fontsize=8)
    return as_picture(figure, path, "The model from behind and above the cameras.")


def plotly_html(figure: go.Figure, div: str, tools: bool = False, script: str | None = None) -> str:
    """A figure as a part of a page that holds plotly's script already.

    Args:
        figure: of plotly.
        div: id of its element, unlike all others of the page.
        tools: whether it has buttons and zooms by scrolling.
        script: JavaScript that runs when it is drawn.
    """
    config = {"displaylogo": False, "responsive": True, "scrollZoom": tools, "displayModeBar": tools}
    return to_html(figure, full_html=False, include_plotlyjs=False, div_id=div, config=config, post_script=script)


def _camera_size(scene: Scene) -> float:
    """Half the width of a drawn frustum: small beside the scene, and beside the distance of neighbouring cameras."""
    everything = np.concatenate([scene.points, *(group.centres for group in scene.groups)])
    if not len(everything):
        return 1.0
    extent = float(np.linalg.norm(np.percentile(everything, 95, axis=0) - np.percentile(everything, 5, axis=0)))
    return 0.018 * max(extent, 1e-9)
