"""The page of a reconstruction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc import extractors
from posfeat_hloc.errors import ImageError, PosfeatError
from posfeat_hloc.evaluation.drawing import score_map
from posfeat_hloc.localization.maps import open_map
from posfeat_hloc.report import scene
from posfeat_hloc.report.charts import histogram
from posfeat_hloc.report.folder import RunFolder
from posfeat_hloc.report.page import DASH, Block, Page, Picture, Rows, Section, Text
from posfeat_hloc.report.photographs import (
    DOTS,
    MAX_PICTURES,
    Thumbnail,
    compute_score_map,
    jpeg_uri,
    thumbnail,
    undistorted,
    with_keypoints,
)
from posfeat_hloc.report.sections import graph_section, pairs_section, repeat_section, timing_section
from posfeat_hloc.sfm.diagnosis.diagnose import Diagnosis, diagnose
from posfeat_hloc.sfm.match_graph import MatchGraph
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.stores import FeatureStore

SCORE_MAPS = 3
SCORE_MAP_SIDE = 512


def fill(page: Page, folder: RunFolder, png: Path) -> None:
    """Add all sections; files that cannot be read are listed in the notes of the page."""
    builder = _Builder(page, folder, png)
    for make in (builder.results, builder.models, builder.failures, builder.images, builder.matching, builder.pictures,
                 builder.scores, builder.distributions):  # fmt: skip
        try:
            make()
        except PosfeatError as error:
            page.notes.append(str(error))
    for section in (timing_section(folder, png), repeat_section(folder)):
        if section is not None:
            page.sections.append(section)


class _Builder:
    """Reads each part of the folder once."""

    def __init__(self, page: Page, folder: RunFolder, png: Path) -> None:
        self.page, self.folder, self.png = page, folder, png
        self.reconstructions: list[pycolmap.Reconstruction] = []
        self.diagnosis = Diagnosis()
        side = 520 if self._count() <= 30 else 360 if self._count() <= 60 else 260
        self.small: Callable[[str], Thumbnail] = lru_cache(maxsize=256)(lambda name: self._thumbnail(name, side))

    def _count(self) -> int:
        found = self.folder.summary.get("images")
        return found if isinstance(found, int) else 60

    def _thumbnail(self, name: str, side: int) -> Thumbnail:
        if self.folder.images is None:
            raise ImageError("the folder of the photographs is not known")
        return thumbnail(self.folder.images / name, side)

    @property
    def database(self) -> Path | None:
        return self.folder.file("database.db")

    @property
    def poses(self) -> dict[str, pycolmap.Image]:
        """Images of the largest model."""
        if not self.reconstructions:
            return {}
        return {image.name: image for image in self.reconstructions[0].images.values() if image.has_pose}

    def results(self) -> None:
        """The numbers on top."""
        self.reconstructions = [read_model(path) for path in self.folder.models]
        summary, figures = self.folder.summary, self.page.figures
        if feature := self.folder.command.get("feature"):
            self.page.subtitle += f" with {feature}"
        if self.reconstructions:
            model = self.reconstructions[0]
            of = f" of {summary['images']}" if "images" in summary else ""
            figures += [
                (f"{model.num_reg_images()}{of}", "images in the model"),
                (f"{model.num_points3D():,}".replace(",", " "), "3D points"),
                (f"{model.compute_mean_track_length():.2f}", "observations of a point"),
                (f"{model.compute_mean_reprojection_error():.2f} px", "reprojection error"),
            ]
        elif "images" in summary:
            figures.append((f"0 of {summary['images']}", "images in a model"))
        if "verified_pairs" in summary:
            figures.append((f"{summary['verified_pairs']} of {summary.get('pairs', '?')}", "pairs verified"))
        if (truth := summary.get("against_truth")) is not None:
            figures.append((f"{truth['median_rotation']:.3f}°", "rotation error"))
            figures.append((f"{100 * truth['median_position']:.2f} %", "position error, of the path"))

    @cached_property
    def shown(self) -> list[str]:
        """Photographs whose thumbnails are in the page."""
        path = self.folder.file("features.h5")
        if path is None or self.folder.images is None:
            return []
        with FeatureStore(path) as store:
            names = store.names()
        return names[:: -(-len(names) // MAX_PICTURES)] if names else []

    def models(self) -> None:
        """Each model as an interactive figure."""
        self.page.anchors.update({name: f"image-{number}" for number, name in enumerate(self.shown)})
        if not self.reconstructions:
            if self.database is not None and not self.folder.models:
                self.page.notes.append("There is no model.")
            return
        blocks: list[Block] = []
        for number, model in enumerate(self.reconstructions[:3]):
            view = scene.make_scene(model, [scene.Cameras.of_model(model)])
            scene.picture(view, self.png / f"model_{number}.png")
            if len(self.reconstructions) > 1:
                blocks.append(Text(f"Model {number}: {model.num_reg_images()} images"))
            blocks.append(scene.interactive(view, f"model-{number}", self.page.anchors))
        self.page.sections.append(Section("3D points and cameras", blocks))

    def failures(self) -> None:
        """Why images are not in the model, and what to try."""
        blocks: list[Block] = []
        if self.database is not None:
            self.diagnosis = diagnose(self.database, self.folder.models, self.folder.command)
        for cause in self.diagnosis.causes:
            plural = "1 image" if len(cause.images) == 1 else f"{len(cause.images)} images"
            remedies = f"Try {cause.remedies}" if cause.options else cause.remedies[:1].upper() + cause.remedies[1:]
            blocks.append(Text(f"Likely cause for {plural}: {cause.name}. {remedies}.", "warning"))
        if (told := self.diagnosis.about_focal_lengths) is not None:
            blocks.append(Text(f"Focal lengths: {told}.", "warning"))
        rows = [[name, reason.cause, reason.evidence] for name, reason in self.diagnosis.reasons.items()]
        rows += [[name, "could not be read", str(why)] for name, why in self.folder.summary.get("skipped", {}).items()]
        if rows:
            blocks.append(Rows(["image", "likely cause", "evidence"], rows))
        elif self.reconstructions:
            blocks.append(Text("All images that could be read are in one model.", "good"))
        notes = self.folder.summary.get("notes", {})
        if notes:
            blocks.append(Rows(["image", "note"], [[name, str(note)] for name, note in notes.items()]))
        if blocks:
            self.page.sections.append(
                Section("Images that are not in the model" if rows else "All images are in the model", blocks)
            )

    def matching(self) -> None:
        """The match graph, and pairs."""
        if self.database is None:
            return
        with MatchGraph(self.database) as graph:
            self.page.sections.append(graph_section(graph, self.png))
            if self.folder.images is not None and graph.verified:
                self.page.sections.append(pairs_section(graph, self.small))

    def pictures(self) -> None:
        """Photographs with keypoints."""
        path = self.folder.file("features.h5")
        if path is None or self.folder.images is None:
            return
        blocks: list[Block] = []
        with FeatureStore(path) as store:
            names, shown = store.names(), self.shown
            for name in shown:
                blocks.append(self._with_keypoints(name, store.keypoints(name)))
        text = f"At most {DOTS} keypoints of each are drawn, evenly chosen"
        text += (
            "; turquoise: with a 3D point, orange: without. Registered images are undistorted."
            if self.reconstructions
            else "."
        )
        if len(shown) < len(names):
            text += f" {len(shown)} of {len(names)} photographs are shown."
        section = Section("Photographs and keypoints", [Text(text), *blocks], "tiles")
        self.page.sections.append(section)

    def _with_keypoints(self, name: str, keypoints: NDArray[np.float32]) -> Block:
        count = f"{len(keypoints)} keypoints"
        used = None
        if name in self.poses:
            used = np.array([point.has_point3D() for point in self.poses[name].points2D], bool)
            used = used if len(used) == len(keypoints) else None
            count += "" if used is None else f", {int(used.sum())} in 3D points"
        elif self.reconstructions:
            count += ", not in this model"
        try:
            small = self.small(name)
        except ImageError as error:
            return Text(f"{name}: {count}; no image: {error}", "warning")
        places = keypoints.astype(np.float64)
        if name in self.poses:
            small, places = undistorted(small, places, self.poses[name].camera)
        pixels = with_keypoints(small, places, used, DOTS)
        return Picture(jpeg_uri(pixels, 72), count, title=name, anchor=self.page.anchors.get(name, ""))

    def scores(self) -> None:
        """Score maps of a few images, computed again, where the feature has them."""
        if not self.poses or self.folder.images is None or self.folder.file("features.h5") is None:
            return
        parts = open_map(self.folder.path)
        extractor = extractors.create(parts.conf["model"])
        parts.check_extractor(extractor)
        names = sorted(self.poses)
        blocks: list[Block] = []
        for name in names[:: max(1, (len(names) - 1) // (SCORE_MAPS - 1))][:SCORE_MAPS]:
            small = self._thumbnail(name, SCORE_MAP_SIDE)
            scores = compute_score_map(extractor, small.pixels)
            if scores is None:
                return
            height, width = small.pixels.shape[:2]
            drawn = score_map(cv2.resize(scores, (width, height), interpolation=cv2.INTER_LINEAR))
            both = np.concatenate([small.pixels, drawn], axis=1)
            blocks.append(Picture(jpeg_uri(both), name))
        text = (
            f"What {parts.feature} takes its keypoints by, from low (violet) to high (yellow): computed again for this "
            f"page on photographs shrunk to {SCORE_MAP_SIDE} pixels, so they show less detail than in the run."
        )
        if blocks:
            self.page.sections.append(Section("Score maps", [Text(text), *blocks], "grid"))

    def distributions(self) -> None:
        """Track lengths, errors, keypoints."""
        blocks: list[Block] = []
        if self.reconstructions and (points := list(self.reconstructions[0].points3D.values())):
            lengths = [len({element.image_id for element in point.track.elements}) for point in points]
            blocks += [
                histogram(self.png / "track_length.png", lengths, "images that see a point", "3D points",
                          "Track length", whole=True),
                histogram(self.png / "reprojection_error.png", [p.error for p in points], "pixels", "3D points",
                          "Reprojection error"),
            ]  # fmt: skip
        if (path := self.folder.file("features.h5")) is not None:
            with FeatureStore(path) as store:
                counts = [len(store.keypoints(name)) for name in store.names()]
            if counts:
                blocks.append(
                    histogram(self.png / "keypoints.png", counts, "keypoints", "images", "Keypoints of an image")
                )
        if blocks:
            self.page.sections.append(Section("Distributions", blocks, "grid"))

    def images(self) -> None:
        """A row for each image with features: keypoints, verified matches, 3D points, error, focal length."""
        path = self.folder.file("features.h5")
        if path is None and not self.poses:
            return
        counts: dict[str, int] = {}
        if path is not None:
            with FeatureStore(path) as store:
                counts = {name: len(store.keypoints(name)) for name in store.names()}
        matches: Counter[str] = Counter()
        if self.database is not None:
            with MatchGraph(self.database) as graph:
                for pair, found in graph.verified.items():
                    matches.update(dict.fromkeys(pair, found.inliers))
        errors = _image_errors(self.reconstructions[0]) if self.reconstructions else {}
        rows = []
        for name in sorted({*counts, *self.poses}):
            image = self.poses.get(name)
            row = [name, str(counts.get(name, DASH)), str(matches[name])]
            row += [DASH] * 3 if image is None else [
                str(image.num_points3D), f"{errors[name]:.2f}" if name in errors else DASH,
                f"{image.camera.mean_focal_length():.0f}",
            ]  # fmt: skip
            rows.append(row)
        titles = ["image", "keypoints", "verified matches", "3D points", "error [px]", "focal length [px]"]
        self.page.sections.append(Section(f"All {len(rows)} images", [Rows(titles, rows)], folded=len(rows) > 30))


def _image_errors(model: pycolmap.Reconstruction) -> dict[str, float]:
    """Mean error of the 3D points that each image sees, in pixels."""
    result = {}
    for image in model.images.values():
        found = (
            [model.points3D[p.point3D_id].error for p in image.points2D if p.has_point3D()] if image.has_pose else []
        )
        if found:
            result[image.name] = float(np.mean(found))
    return result
