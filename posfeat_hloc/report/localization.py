"""The pages of localizations and of Aachen."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from posfeat_hloc.errors import ImageError, PosfeatError
from posfeat_hloc.evaluation.poses import PoseErrors, localization_errors
from posfeat_hloc.localization.results import Localized, read_log, read_true_poses
from posfeat_hloc.report import scene
from posfeat_hloc.report.charts import ORANGE, bars, cumulative, histogram
from posfeat_hloc.report.folder import RunFolder
from posfeat_hloc.report.page import DASH, Block, Page, Picture, Rows, Section, Text
from posfeat_hloc.report.photographs import DOTS, MAX_PICTURES, jpeg_uri, thumbnail, with_keypoints
from posfeat_hloc.report.sections import repeat_section, timing_section
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.stores import FeatureStore

_BARS_UP_TO = 40
THUMBNAIL_SIDE = 300


def fill(page: Page, folder: RunFolder, png: Path) -> None:
    """Add all sections; files that cannot be read are listed in the notes of the page."""
    make = _aachen if folder.kind == "aachen" else _localize
    try:
        make(page, folder, png)
    except PosfeatError as error:
        page.notes.append(str(error))
    for section in (timing_section(folder, png), repeat_section(folder)):
        if section is not None:
            page.sections.append(section)


def _localize(page: Page, folder: RunFolder, png: Path) -> None:
    summary = folder.summary
    if summary:
        page.subtitle += f" with {summary.get('feature', 'an unknown feature')}"
        page.figures += [
            (f"{summary.get('localized', 0)} of {summary.get('queries', '?')}", "queries localized"),
            (f"{summary.get('median_inliers', 0):g}", "inliers of the median query"),
            (f"{summary.get('median_matches', 0):g}", "matches of the median query"),
        ]
        errors = summary.get("errors")
        if errors and errors.get("median_position") is not None:
            page.figures.append((f"{errors['median_position']:.3g}, {errors['median_rotation']:.2g}°", "median error"))
    results = read_log(folder.path / "queries.jsonl") if folder.file("queries.jsonl") else {}
    errors = _errors(page, folder, results)
    page.anchors.update({name: f"image-{number}" for number, name in enumerate(_shown(folder, results))})
    _scene(page, summary.get("map", {}).get("model"), results, png, "map")
    _recall(page, (summary.get("errors") or {}).get("recall", []))
    _queries(page, results, errors, png, "")
    _thumbnails(page, folder, results)
    unread = {n: w for n, w in summary.get("not_localized", {}).items() if n not in results}
    if unread:
        rows = [[name, str(why)] for name, why in unread.items()]
        page.sections.append(Section("Queries without features", [Rows(["query", "reason"], rows)]))


def _aachen(page: Page, folder: RunFolder, png: Path) -> None:
    summary = folder.summary
    dataset, trials = summary.get("dataset", {}), summary.get("trials", [])
    if dataset:
        page.subtitle += f" {dataset['version']}, {dataset['protocol']} protocol"
        page.subtitle += f", {folder.command['feature']}" if "feature" in folder.command else ""
    for trial in trials[:1]:
        page.figures += [
            (f"{trial['localized']} of {dataset.get('queries', '?')}", "queries localized"),
            (f"{trial['model']['points']:,}".replace(",", " "), "3D points of the map"),
            (f"{trial['model']['reprojection_error']:.2f} px", "reprojection error"),
        ]
    _aachen_recall(page, summary)
    page.notes += [str(note) for note in summary.get("notes", [])]
    for place in sorted(folder.path.glob("seed-*")):
        log = place / "localization.jsonl"
        results = read_log(log) if log.is_file() else {}
        if place == min(folder.path.glob("seed-*")):
            model = place / "sfm"
            _scene(page, str(model) if model.is_dir() else None, results, png, place.name)
        _queries(page, results, _errors(page, folder, results), png, f" ({place.name})")
        failed: dict[str, Any] = next((t["failed"] for t in trials if f"seed-{t['seed']}" == place.name), {})
        without = [[name, str(why)] for name, why in failed.items() if name not in results]
        if without:
            page.sections.append(Section(f"Not localized ({place.name})", [Rows(["query", "reason"], without)]))


def _errors(page: Page, folder: RunFolder, results: dict[str, Localized]) -> PoseErrors | None:
    """Against the true poses that the command named, where they are still there."""
    truth = folder.command.get("ground_truth")
    if not truth or not results:
        return None
    try:
        known = read_true_poses(Path(truth), list(results))
    except PosfeatError as error:
        page.notes.append(f"Pose errors of single queries are left out: {error}.")
        return None
    own = {name: r.cam_from_world for name, r in results.items() if r.localized and r.cam_from_world is not None}
    return localization_errors(own, known)


def _queries(page: Page, results: dict[str, Localized], errors: PoseErrors | None, png: Path, which: str) -> None:
    if not results:
        return
    stem = f"queries{which.strip(' ()').replace('seed', '_seed')}"
    blocks: list[Block] = []
    found_errors: dict[str, tuple[float, float]] = {}
    if errors is not None:
        found_errors = dict(zip(errors.names, zip(errors.position, errors.rotation, strict=True), strict=True))
        caption = "Queries without a pose count as infinite errors; distances in the unit of the map."
        for values, label, name in ((errors.position, "position error", "position"),
                                    (errors.rotation, "rotation error [degrees]", "rotation")):  # fmt: skip
            curve = np.where(np.isfinite(errors.position), values, np.inf).tolist()
            blocks.append(
                cumulative(png / f"{stem}_{name}.png", {name: curve}, label, f"Share of queries by {label}", caption)
            )
    inliers = {name: float(found.inliers) for name, found in results.items()}
    if len(inliers) <= _BARS_UP_TO:
        ordered = dict(sorted(inliers.items(), key=lambda item: -item[1]))
        blocks.append(bars(png / f"{stem}_inliers.png", ordered, "inliers", "Inliers of each query", "", ".0f"))
    else:
        blocks.append(
            histogram(png / f"{stem}_inliers.png", list(inliers.values()), "inliers", "queries", "Inliers of a query")
        )
    page.sections.append(Section(f"Inliers{' and pose errors' * (errors is not None)}{which}", blocks, "grid"))
    rows = []
    for name, found in sorted(results.items(), key=lambda item: item[1].inliers):
        row = [name, str(found.inliers), str(found.matches)]
        if errors is not None:
            far, turn = found_errors.get(name, (np.nan, np.nan))
            row += [DASH, DASH] if not np.isfinite(far) else [f"{far:.3f}", f"{turn:.2f}"]
        rows.append([*row, found.reason or "localized"])
    titles = ["query", "inliers", "matches", *(["position", "rotation [°]"] if errors is not None else []), "result"]
    page.sections.append(
        Section(f"All {len(rows)} queries, the weakest first{which}", [Rows(titles, rows)], folded=len(rows) > 20)
    )


def _shown(folder: RunFolder, results: dict[str, Localized]) -> list[str]:
    """Queries whose thumbnails are in the page."""
    if folder.images is None:
        return []
    names = [name for name in results if (folder.images / name).is_file()]
    return names[:: -(-len(names) // MAX_PICTURES)] if names else []


def _thumbnails(page: Page, folder: RunFolder, results: dict[str, Localized]) -> None:
    """The queries with their keypoints."""
    path = folder.file("features.h5")
    blocks: list[Block] = []
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(FeatureStore(path)) if path is not None else None
        stored = set(store.names()) if store is not None else set()
        for name in _shown(folder, results):
            found = results[name]
            caption = f"{found.inliers} inliers of {found.matches} matches" if found.localized else found.reason
            try:
                small = thumbnail(Path(str(folder.images)) / name, THUMBNAIL_SIDE)
            except ImageError as error:
                blocks.append(Text(f"{name}: {caption}; no image: {error}", "warning"))
                continue
            pixels = small.pixels
            if store is not None and name in stored:
                pixels = with_keypoints(small, store.keypoints(name).astype(np.float64), None, DOTS)
            blocks.append(Picture(jpeg_uri(pixels, 72), caption, title=name, anchor=page.anchors[name]))
    if blocks:
        page.sections.append(Section("Queries and their keypoints", blocks, "tiles"))


def _recall(page: Page, found: list[dict[str, float]]) -> None:
    if found:
        rows = [[f"{r['position']:g}, {r['rotation']:g}°", f"{100 * r['recall']:.1f} %"] for r in found]
        page.sections.append(Section("Recall", [Rows(["within", "of the queries"], rows)]))


def _aachen_recall(page: Page, summary: dict[str, Any]) -> None:
    recall, limits = summary.get("recall", {}), summary.get("thresholds", [])
    if not recall:
        if summary:
            text = "True poses are not known here: upload the result file to visuallocalization.net for the recall."
            page.sections.append(Section("Recall", [Text(text)]))
        return
    rows = []
    for kind, columns in recall.items():
        cells = [
            f"{100 * c['mean']:.1f}" + (f" ± {100 * c['deviation']:.1f}" if c["deviation"] else "") for c in columns
        ]
        rows.append([kind, *cells])
    titles = ["queries", *(f"{far:g}, {turn:g}°" for far, turn in limits)]
    page.sections.append(Section("Recall in %", [Rows(titles, rows)]))


def _scene(page: Page, model: str | None, results: dict[str, Localized], png: Path, name: str) -> None:
    if model is None or not Path(model).is_dir():
        return
    reconstruction = read_model(Path(model))
    poses: dict[str, pycolmap.Rigid3d] = {
        query: found.cam_from_world
        for query, found in results.items()
        if found.localized and found.cam_from_world is not None
    }
    groups = [
        scene.Cameras.of_model(reconstruction, "map"),
        scene.Cameras.of_poses(poses, "queries", ORANGE),
    ]
    view = scene.make_scene(reconstruction, groups)
    scene.picture(view, png / f"{name}.png")
    page.sections.append(
        Section("The map and the localized queries", [scene.interactive(view, f"model-{name}", page.anchors)])
    )
