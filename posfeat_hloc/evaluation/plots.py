"""Plots of accuracy: over pixel thresholds, as D2D figure 4 and PoSFeat figure 5, and over an option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from posfeat_hloc.evaluation.homography import THRESHOLDS
from posfeat_hloc.evaluation.mma import GROUPS, MmaResult

MISSING = "matplotlib is not installed: pip install 'posfeat-hloc[plot]'"


def plot_mma(path: Path, ours: Mapping[str, MmaResult], published: Mapping[str, MmaResult], title: str) -> str:
    """Draw MMA at 1..10 px, a panel for each group that was measured; the legend gives keypoints and matches.

    Measured curves are solid with dots, published ones thin and broken.

    Returns:
        why nothing was drawn; empty when ``path`` was written.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return MISSING
    groups = [group for group in GROUPS if any(group in result.curves for result in ours.values())]
    figure = Figure(figsize=(4.2 * len(groups) + 4.2, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    strong, many = colormaps["tab10"], colormaps["turbo"].resampled(max(1, len(published)))
    for group, panel in zip(groups, panels, strict=True):
        for i, (name, result) in enumerate(published.items()):
            panel.plot(THRESHOLDS, result.curves[group], ("--", "-.", ":")[i % 3], lw=1, color=many(i),
                       label=_legend(name, result))  # fmt: skip
        for i, (name, result) in enumerate(ours.items()):
            if group in result.curves:
                panel.plot(THRESHOLDS, result.curves[group], "o-", lw=2, ms=4, color=strong(i % 10),
                           label=_legend(name, result))  # fmt: skip
        panel.set(title=group, xlabel="threshold [px]", xlim=(0.8, 10.2), ylim=(0, 1.02), xticks=THRESHOLDS)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("MMA")
    handles, labels = panels[0].get_legend_handles_labels()
    order = [*range(len(published), len(handles)), *range(len(published))]  # measured first, but drawn on top
    figure.legend([handles[i] for i in order], [labels[i] for i in order], loc="outside right upper", fontsize=8,
                  title="keypoints / matches; thin: published" if published else "keypoints / matches")  # fmt: skip
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
    return ""


def plot_sweep(
    path: Path, values: Sequence[float], curves: Mapping[str, Sequence[float]], option: str, measure: str, title: str
) -> str:
    """Draw what a measure makes of the values of an option, a line for each feature (D2D figure 7).

    Returns:
        why nothing was drawn; empty when ``path`` was written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return MISSING
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for name, curve in curves.items():
        panel.plot(values, curve, "o-", lw=2, ms=4, label=name)
    panel.set(title=title, xlabel=option, ylabel=measure, xticks=values)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    return ""


def _legend(name: str, result: MmaResult) -> str:
    return f"{name}  ({result.keypoints:.0f} / {result.matches:.0f})"
