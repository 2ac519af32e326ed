"""Maps: made at known poses, grown, joined, moved."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from posfeat_hloc.cli.arguments import add_options, add_quiet, chosen, reporter_of
from posfeat_hloc.cli.summary import Summary
from posfeat_hloc.runtime.reporter import entry, listing
from posfeat_hloc.sfm.options import RegisterOptions, TriangulateOptions

if TYPE_CHECKING:
    from posfeat_hloc.sfm.models import ModelSummary


def described(model: ModelSummary) -> list[str]:
    """What a model holds."""
    return [
        f"  points              {model.points:,}".replace(",", " "),
        f"  track length        {model.track_length:.2f} observations in {model.images_per_point:.2f} images",
        f"  reprojection error  {model.reprojection_error:.2f} px",
        f"  model               {model.path}",
    ]


class Triangulate:
    """Make a map of our features at known poses.

    posfeat-hloc triangulate --model sparse/0 --images photos --output outputs/map
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The known poses, and how features are triangulated."""
        add = parser.add_argument
        add("--model", type=Path, required=True, metavar="PATH",
            help="known cameras and poses: a COLMAP model or a folder with one in sparse/0; Bundler's bundle.out "
            "beside its list of images; an NVM file; transforms.json; a folder of Polycam's JSON cameras; a text file "
            "of poses")  # fmt: skip
        add("--images", type=Path, required=True, metavar="DIR", help="its photographs")
        add("--output", type=Path, required=True, metavar="DIR", help="folder of the map")
        add_quiet(parser)
        add_options(parser, TriangulateOptions, common=("feature", "max_size", "masks", "pairs", "refine"))

    @staticmethod
    def run(args: argparse.Namespace) -> Summary:
        """Triangulate the map, and summarise it."""
        from posfeat_hloc.sfm.map_at_known_poses import triangulate_images

        options = chosen(args, TriangulateOptions)
        made = triangulate_images(args.model, args.images, args.output, options, reporter_of(args))
        lines = [f"{made.model.registered} images at their known poses, {options.feature}"]
        if made.posed > len(made.extraction.names):
            missing = made.posed - len(made.extraction.names)
            lines += entry("without features", f"{missing}: not in {args.images}, or unreadable")
        lines += described(made.model)
        if options.refine:
            lines += entry("poses moved by", f"{made.moved:.4g} (median, in the units of the model)")
        lines += entry("localize in it", f"posfeat-hloc localize --map {shlex.quote(str(args.output))} --queries DIR")
        text = "\n".join([*lines, *listing("skipped", made.extraction.skipped)])
        data = {"output": args.output, "feature": options.feature, "model": made.model, "posed": made.posed}
        return Summary(text, data | {"skipped": made.extraction.skipped, "moved": made.moved})


class Register:
    """Add new photographs to a map; its poses stay fixed.

    posfeat-hloc register outputs/photos
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The map, and how it grows."""
        add = parser.add_argument
        add("map", type=Path, metavar="MAP", help="output folder of sfm or triangulate, which stays unchanged")
        add("--output", type=Path, metavar="DIR", help="folder of the extended map (default: MAP-grown)")
        add_quiet(parser)
        add_options(parser, RegisterOptions, common=("images", "matcher", "move", "masks"))

    @staticmethod
    def run(args: argparse.Namespace) -> Summary:
        """Extend the map, and list the new photographs; incomplete if none was registered."""
        from posfeat_hloc.localization.register import register_images

        output: Path = args.output or args.map.with_name(f"{args.map.resolve().name}-grown")
        grown = register_images(args.map, output, chosen(args, RegisterOptions), reporter_of(args))
        new = len(grown.registered) + len(grown.failed)
        lines = [f"{len(grown.registered)} of {new} new images joined the {grown.before} of {args.map}"]
        lines += described(grown.model)
        stay = "unchanged" if grown.moved == 0 else f"changed by at most {grown.moved:.3g}"
        lines += entry("old poses", f"{stay}; the coordinate frame is the map's")
        text = "\n".join([*lines, *listing("not registered", grown.failed)])
        return Summary(text, {"output": output, **asdict(grown)}, bool(grown.registered))


class Merge:
    """Join the models of a run that share points.

    posfeat-hloc merge outputs/photos
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The run, and where the merged model goes."""
        add = parser.add_argument
        add("map", type=Path, metavar="MAP", help="output folder of sfm with several models in sparse/")
        add("--output", type=Path, metavar="DIR", help="folder of the merged model (default: MAP/merged)")
        add("--seed", type=int, default=0, help="seed of all random choices (default: %(default)s)")

    @staticmethod
    def run(args: argparse.Namespace) -> Summary:
        """Merge; False where no model could be joined."""
        from posfeat_hloc.sfm.merge import merge_map

        merged = merge_map(args.map, args.output, args.seed)
        lines = [
            f"model {one.number} joined model 0: {one.agreed} of {one.common} common points agree"
            for one in merged.joined
        ]
        if merged.model is None:
            lines.append(f"none of the {merged.left} other models shares enough points with model 0")
        else:
            lines += described(merged.model)
            lines += [f"  not joined          {merged.left} models"] if merged.left else []
        return Summary("\n".join(lines), asdict(merged), merged.model is not None)


class Align:
    """Move a model to known positions of its cameras, or onto another model.

    posfeat-hloc align outputs/photos --positions positions.txt --output outputs/aligned
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The model, and what it is aligned to."""
        add = parser.add_argument
        add("model", type=Path, metavar="MODEL", help="output folder of sfm, or a COLMAP model")
        target = parser.add_mutually_exclusive_group(required=True)
        target.add_argument("--positions", type=Path, metavar="FILE",
            help="where cameras are: 'name x y z' a line, in any Cartesian frame")  # fmt: skip
        target.add_argument("--to", type=Path, metavar="MODEL", help="a model with some of the same images")
        add("--output", type=Path, required=True, metavar="DIR", help="folder of the moved model")
        add("--max-error", type=float, metavar="D",
            help="maximum distance of an inlier (default: 1/50 of the extent of the positions)")  # fmt: skip
        add("--seed", type=int, default=0, help="seed of RANSAC (default: %(default)s)")

    @staticmethod
    def run(args: argparse.Namespace) -> Summary:
        """Move the model, and summarise the alignment."""
        from posfeat_hloc.sfm.alignment import align_map

        found = align_map(args.model, args.output, args.to, args.positions, args.max_error, args.seed)
        data = {
            "output": args.output, "scale": found.similarity.scale, "cameras": found.common,
            "median_distance": found.distance, "note": found.note,
        }  # fmt: skip
        fit = f"{found.common} cameras at a median distance of {found.distance:.4g}"
        text = f"{args.output}: scale {found.similarity.scale:.6g}, {fit}"
        return Summary(f"{text}\nnote: {found.note}" if found.note else text, data)
