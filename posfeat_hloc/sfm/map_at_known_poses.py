"""A map of our features at known poses: from photographs and their poses to 3D points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from posfeat_hloc.errors import ConfigurationError, MappingError, Option
from posfeat_hloc.extract_features import ExtractionReport, extract
from posfeat_hloc.match_features import match
from posfeat_hloc.runtime.options import recorded
from posfeat_hloc.runtime.output import claim, only_writer
from posfeat_hloc.runtime.reporter import QUIET, Reporter, reporting
from posfeat_hloc.sfm.alignment import aligned_to, positions_of
from posfeat_hloc.sfm.job import configurations
from posfeat_hloc.sfm.known_poses import read_known_poses
from posfeat_hloc.sfm.models import ModelSummary, read_model, registered_names, write_model
from posfeat_hloc.sfm.options import TriangulateOptions
from posfeat_hloc.sfm.pairs import covisibility_pairs, exhaustive_pairs, pose_pairs
from posfeat_hloc.sfm.summary import write_summary
from posfeat_hloc.sfm.triangulation import TriangulationOptions, triangulate
from posfeat_hloc.stores.pairs import Pair, read_pairs, unique_pairs, write_pairs


@dataclass(frozen=True)
class TriangulatedMap:
    """What was made.

    Attributes:
        model: in ``sparse/0`` of the output.
        posed: images of the given model.
        extraction: of those whose photographs are there.
        pairs: that were matched.
        moved: median distance that refinement moved cameras, in the units of the model; 0 without.
    """

    model: ModelSummary
    posed: int
    extraction: ExtractionReport
    pairs: int
    moved: float


def triangulate_images(
    model: Path,
    images: Path,
    output: Path,
    options: TriangulateOptions | None = None,
    reporter: Reporter = QUIET,
) -> TriangulatedMap:
    """Make a map for localization from photographs whose poses are known; run again, it resumes.

    Tracks of two views are kept: at poses that are known they are as sound as others, and where few images see a place
    most points have no more.

    Args:
        model: any of :data:`posfeat_hloc.sfm.known_poses.FORMS`.
        images: folder of its photographs.
        output: folder of ``features.h5``, ``matches.h5``, ``pairs.txt``, ``reference`` (the model as read), and
            ``sparse/0``.
        options: see :class:`TriangulateOptions`.
        reporter: hears what is done.

    Raises:
        PosfeatError: for anything a user can fix.
    """
    options, progress = options or TriangulateOptions(), reporter.progress
    feature, matcher = configurations(options)
    known = read_known_poses(model, images)
    with only_writer(output), reporting(reporter):
        claim(output, [model])
        reference = output / "reference"
        reference.mkdir(exist_ok=True)
        write_model(known, reference)
        posed = registered_names(known)
        names = [name for name in posed if (images / name).is_file()]
        features, matches = output / "features.h5", output / "matches.h5"
        extraction = extract(feature, images, features, names, options.device, progress=progress, masks=options.masks)
        pairs = _choose_pairs(reference, extraction.names, options)
        write_pairs(output / "pairs.txt", pairs)
        match(matcher, pairs, features, matches, options.device, progress=progress)
        sparse = output / "sparse" / "0"
        how = TriangulationOptions(seed=options.seed, threads=options.threads, two_view_tracks=True)
        summary = triangulate(reference, images, features, matches, pairs, sparse, how, progress)
        moved = 0.0
        if options.refine is not None:
            refined = output / "refined"
            moved = _refine(sparse, reference, refined, options)
            summary = triangulate(refined, images, features, matches, pairs, sparse, how, progress)
        if not summary.points:
            raise MappingError(
                f"{model}: the matches of {len(pairs)} pairs give no 3D point at these poses; are they of these "
                "photographs, and in the axes that the format has?"
            )
        record = {"model": str(model), "output": str(output)} | recorded(options)
        write_summary(output, summary, images, options.feature, record)
    return TriangulatedMap(summary, len(posed), extraction, len(pairs), moved)


def _choose_pairs(model: Path, usable: Sequence[str], options: TriangulateOptions) -> list[Pair]:
    """Pairs of images with features."""
    if len(usable) < 2:
        raise ConfigurationError(f"{model}: fewer than two of its photographs can be read")
    if options.pairs is not None:
        pairs = read_pairs(options.pairs, usable)
    elif len(usable) <= options.neighbors + 1:
        pairs = exhaustive_pairs(usable)
    else:
        shared = covisibility_pairs(model, options.neighbors)
        near = pose_pairs(model, options.neighbors, options.max_angle)
        pairs = unique_pairs([*shared, *near])
    have = set(usable)
    pairs = [pair for pair in pairs if have.issuperset(pair)]
    if not pairs:
        raise MappingError(
            f"{model}: no two of its photographs look in a similar direction; name pairs by ", Option("pairs")
        )
    return pairs


def _refine(sparse: Path, reference: Path, refined: Path, options: TriangulateOptions) -> float:
    """Bundle adjustment of a triangulated model, put back to where the reference is; returns how far cameras moved."""
    model, before = read_model(sparse), read_model(reference)
    adjustment = pycolmap.BundleAdjustmentOptions()
    adjustment.refine_focal_length = adjustment.refine_extra_params = options.refine == "all"
    adjustment.refine_principal_point = False
    adjustment.print_summary = False
    pycolmap.bundle_adjustment(model, adjustment)
    similarity = aligned_to(model, before)
    if similarity is not None:
        model.transform(similarity)
    refined.mkdir(exist_ok=True)
    write_model(model, refined)
    places = positions_of(before)
    moved = [place - places[name] for name, place in positions_of(model).items()]
    return float(np.median(np.linalg.norm(moved, axis=1)))
