"""Sections of pages: the match graph and its best and worst pairs; stages of the run, and how to repeat it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.colors import LogNorm

from posfeat_hloc.errors import ImageError, Option, StoreError
from posfeat_hloc.report.charts import GREY, as_picture, bars, histogram, new_figure
from posfeat_hloc.report.folder import RunFolder
from posfeat_hloc.report.page import Block, Facts, Interactive, Picture, Rows, Section, Text
from posfeat_hloc.report.photographs import Thumbnail, jpeg_uri, with_matches
from posfeat_hloc.report.scene import plotly_html
from posfeat_hloc.sfm.match_graph import MatchGraph
from posfeat_hloc.stores import FeatureStore

INTERACTIVE_UP_TO = 300
"""Number of images above which the matrix is drawn as an image only."""
SHOWN_PAIRS = 3
LINES = 120
"""Matches drawn in a pair at most."""


def graph_section(graph: MatchGraph, png: Path) -> Section:
    """The matrix of verified matches, and the connected components of images."""
    components = graph.components()
    order = [name for component in components for name in component]
    where = {name: i for i, name in enumerate(order)}
    matrix = np.zeros((len(order), len(order)), np.int32)
    for (name0, name1), counts in graph.pairs.items():
        matrix[where[name0], where[name1]] = matrix[where[name1], where[name0]] = counts.inliers
    groups = [c for c in components if len(c) > 1]
    alone = [c[0] for c in components if len(c) == 1]
    verified = graph.verified
    text = f"{len(verified)} of {len(graph.pairs)} matched pairs are verified. "
    if len(groups) == 1 and not alone:
        text += f"They connect all {len(order)} images."
    else:
        text += f"They connect the images in {len(groups)} group{'s' * (len(groups) != 1)}"
        text += f" of {', '.join(str(len(group)) for group in groups)}" if groups else ""
        text += f"; {len(alone)} images are isolated." if alone else "."
    blocks: list[Block] = [Text(text)]
    still = _matrix_picture(matrix, [len(c) for c in components], png / "match_graph.png")
    if 0 < len(order) <= INTERACTIVE_UP_TO:
        blocks.append(_matrix_figure(matrix, order))
    else:
        blocks.append(still)
    if verified:
        inliers = [counts.inliers for counts in verified.values()]
        blocks.append(
            histogram(png / "pair_inliers.png", inliers, "verified matches", "pairs", "Verified matches of a pair")
        )
        share = [counts.inliers / counts.matches for counts in verified.values()]
        blocks.append(
            histogram(
                png / "inlier_ratio.png", share, "verified / all matches", "pairs", "Share of matches that are verified"
            )
        )
    if len(groups) > 1 or alone:
        rows = [[str(number), str(len(c)), _few(c)] for number, c in enumerate(groups, 1)]
        rows += [["isolated", str(len(alone)), _few(alone)]] if alone else []
        blocks.append(Rows(["group", "images", "names"], rows))
    return Section("Match graph", blocks, "grid")


def pairs_section(graph: MatchGraph, thumbnail: Callable[[str], Thumbnail]) -> Section:
    """The verified pairs with most and with fewest matches, drawn."""
    verified = list(graph.verified.items())
    best = verified[:SHOWN_PAIRS]
    worst = verified[max(SHOWN_PAIRS, len(verified) - SHOWN_PAIRS) :][::-1]
    blocks: list[Block] = [
        Text(f"Verified matches, at most {LINES} drawn, chosen at random; each line has its own color.")
    ]
    for title, chosen in (("Best", best), ("Worst verified", worst)):
        for (name0, name1), counts in chosen:
            share = f"{counts.inliers} of {counts.matches} matches ({counts.inliers / counts.matches:.0%})"
            try:
                blocks.append(_drawn(graph, name0, name1, thumbnail, title, share))
            except ImageError as error:
                blocks.append(Text(f"{name0} and {name1}: {share}; no image: {error}", "warning"))
    return Section("Best and worst pairs", blocks, "grid")


def _drawn(
    graph: MatchGraph, name0: str, name1: str, thumbnail: Callable[[str], Thumbnail], title: str, share: str
) -> Picture:
    inliers = graph.inliers(name0, name1)
    points0 = graph.positions(name0)[inliers[:, 0]] - 0.5  # COLMAP's pixels
    points1 = graph.positions(name1)[inliers[:, 1]] - 0.5
    pixels = with_matches(thumbnail(name0), thumbnail(name1), points0, points1, LINES)
    return Picture(jpeg_uri(pixels), f"{name0} and {name1}: {share}", title=title)


def _matrix_figure(matrix: np.ndarray, names: list[str]) -> Interactive:  # type: ignore[type-arg]
    shade = np.where(matrix > 0, np.log10(np.maximum(matrix, 1)), np.nan).astype(np.float32)
    top = int(np.ceil(np.nanmax(shade))) if np.isfinite(shade).any() else 1
    figure = go.Figure(
        go.Heatmap(z=shade, x=names, y=names, customdata=matrix, colorscale="Viridis", zmin=1, zmax=max(top, 2),
                   hovertemplate="%{y}<br>%{x}<br>%{customdata} verified matches<extra></extra>",
                   colorbar={"title": {"text": "matches"}, "thickness": 12,
                             "tickvals": list(range(1, top + 1)), "ticktext": [f"{10**i}" for i in range(1, top + 1)]})
    )  # fmt: skip
    ticks = {"showticklabels": len(names) <= 30, "tickfont": {"size": 9}, "showgrid": False, "type": "category"}
    figure.update_layout(
        height=440, margin={"l": 10, "r": 10, "t": 10, "b": 10}, paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(128,128,128,0.12)", font={"color": GREY},
        xaxis={**ticks, "automargin": True, "tickangle": -90},
        yaxis={**ticks, "automargin": True, "autorange": "reversed"},
    )  # fmt: skip
    return Interactive(
        plotly_html(figure, "match-graph"),
        "Verified matches of every pair, on a logarithmic scale; images in the order of groups and names.",
    )


def _matrix_picture(matrix: np.ndarray, sizes: list[int], path: Path) -> Picture:  # type: ignore[type-arg]
    figure = new_figure(5.6, 4.6)
    axes = figure.subplots()
    if matrix.any():
        shown = np.ma.masked_equal(matrix, 0)
        drawn = axes.imshow(shown, norm=LogNorm(vmin=10, vmax=max(100, int(matrix.max()))), interpolation="nearest")
        figure.colorbar(drawn, ax=axes, label="verified matches")
    for border in np.cumsum(sizes)[:-1].tolist() if len(sizes) < 50 else []:
        axes.axhline(border - 0.5, color="#cbd5e1", lw=0.8)
        axes.axvline(border - 0.5, color="#cbd5e1", lw=0.8)
    axes.set(xlabel="image", ylabel="image")
    return as_picture(figure, path, "Verified matches of every pair; lines separate groups without common matches.")


def _few(names: list[str], limit: int = 12) -> str:
    more = f" ... and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def timing_section(folder: RunFolder, png: Path) -> Section | None:
    """Seconds of each stage in the last run."""
    seconds = folder.summary.get("seconds")
    if not seconds:
        return None
    kept = set(folder.summary.get("kept_from_earlier_run", ()))
    values = {f"{stage} (kept)" if stage in kept else stage: float(value) for stage, value in seconds.items()}
    caption = f"{sum(values.values()):.1f} s in the last run; kept: nothing had to be recomputed."
    return Section("Time", [bars(png / "stage_times.png", values, "seconds", "Seconds of each stage", caption)])


def repeat_section(folder: RunFolder) -> Section:
    """What to type to make this run again."""
    blocks: list[Block] = []
    if folder.command:
        blocks.append(Text(command_line(folder.kind, folder.command), "code"))
    facts = [(name, str(version)) for name, version in folder.summary.get("versions", {}).items()]
    if "seed" in folder.command:
        facts.append(("seed", str(folder.command["seed"])))
        if folder.command.get("threads", 1) != 1:
            facts.append(
                ("to the last digit", f"add {Option('threads', 1)}: the seed alone leaves the order of sums open")
            )
    if facts:
        blocks.append(Facts(facts))
    if (features := folder.file("features.h5")) is not None:
        try:
            with FeatureStore(features) as store:
                configuration = store.configuration
            if configuration:
                blocks.append(Text(json.dumps(configuration, indent=1, sort_keys=True), "code"))
        except StoreError as error:
            blocks.append(Text(str(error), "warning"))
    if not blocks:
        blocks.append(Text("Neither the command nor a configuration is recorded.", "warning"))
    return Section("To repeat this run", blocks)


def command_line(kind: str, command: dict[str, Any]) -> str:
    """The command with all options that were set, defaults among them."""
    if command.get("video") or command.get("demo"):  # the images are the run's own
        command = {**command, "images": command.get("photos")}
    command = {name: value for name, value in command.items() if name != "photos"}
    parts = [f"posfeat-hloc {kind}"]
    for name, value in command.items():
        option = "--" + name.replace("_", "-")
        if value is None or value is False or value == [] or name == "quiet":
            continue
        if value is True:
            parts.append(option)
        elif isinstance(value, (list, tuple)):
            values = [str(v) for v in value]
            # intrinsics are one argument with commas; lists of features are several
            parts.append(f"{option} {','.join(values) if name == 'camera_params' else shlex.join(values)}")
        else:
            parts.append(f"{option} {shlex.quote(str(value))}")
    return " ".join(parts)
