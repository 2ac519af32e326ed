"""``triangulate``, ``register``, ``merge`` and ``align``: maps at known poses, maps that grow, where they lie."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pipelines.argument_types import add_network_options, positive
from posfeat_hloc import confs
from posfeat_hloc.cli.arguments import chosen
from posfeat_hloc.errors import ConfigurationError, MappingError
from posfeat_hloc.localization.map_folder import recorded_command
from posfeat_hloc.runtime.colmap_log import send_colmap_log_to
from posfeat_hloc.runtime.output import only_writer, write_atomically
from posfeat_hloc.runtime.skipped import listing
from posfeat_hloc.sfm.alignment import align_to_model, align_to_positions, read_camera_positions
from posfeat_hloc.sfm.extension import ExtensionOptions
from posfeat_hloc.sfm.known_poses import FORMS
from posfeat_hloc.sfm.map_at_known_poses import REFINEMENTS, TriangulateOptions, triangulate_images
from posfeat_hloc.sfm.merge import merge_models
from posfeat_hloc.sfm.options import FeatureOptions
from posfeat_hloc.sfm.reconstruction import ModelSummary, find_model, read_model, summarize, write_model
from posfeat_hloc.sfm.register import RegisterOptions, register_images
from posfeat_hloc.sfm.settings import configurations


def add_triangulate(command: argparse.ArgumentParser) -> None:
    """The options of ``triangulate``."""
    command.set_defaults(run=_triangulate)
    add = command.add_argument
    add("--model", type=Path, required=True, metavar="PATH", help=f"known cameras and poses: {'; '.join(FORMS)}")
    add("--images", type=Path, required=True, metavar="DIR", help="its photographs")
    add("--output", type=Path, required=True, metavar="DIR", help="folder of the map")
    add("--feature", choices=list(confs.extractors), default=confs.DEFAULT_FEATURE, metavar="NAME",
        help="default: %(default)s; `python -m posfeat_hloc list` names all")  # fmt: skip
    add_network_options(command)
    add("--max-size", type=positive, metavar="PX", help="shrink images to this longest side for extraction")
    add("--max-keypoints", type=positive, metavar="N", help="keypoints in an image (default: the feature's)")
    add("--masks", type=Path, metavar="DIR", help="no keypoints where DIR/<image name>.png is black")
    add("--pairs", type=Path, metavar="FILE",
        help="two image names a line (default: by common 3D points of the model, and by poses)")  # fmt: skip
    add("--neighbors", type=positive, default=TriangulateOptions.neighbors, metavar="N",
        help="for each image (default: %(default)s)")  # fmt: skip
    add("--refine", choices=REFINEMENTS,
        help="move poses to where the new points agree best; all: intrinsics, too (default: they stay)")  # fmt: skip
    _add_computation(command)


def add_register(command: argparse.ArgumentParser) -> None:
    """The options of ``register``."""
    command.set_defaults(run=_register)
    add = command.add_argument
    add("map", type=Path, metavar="MAP", help="output folder of pipelines.sfm or triangulate, which stays as it is")
    add("--images", type=Path, metavar="DIR",
        help="photographs of the map and new ones; those that the map lacks are registered (default: its own folder, "
        "to which you have added some)")  # fmt: skip
    add("--output", type=Path, metavar="DIR", help="folder of the grown map (default: MAP-grown)")
    add("--move", action="store_true",
        help="adjust old poses and intrinsics, too; the model as a whole stays where it was (default: they stay to the "
        "last digit)")  # fmt: skip
    add("--neighbors", type=positive, metavar="N",
        help="match each new photograph with the N most similar ones only (default: with all)")  # fmt: skip
    add("--retrieval", choices=list(confs.retrieval), default=RegisterOptions.retrieval,
        help="what similarity is (default: %(default)s)")  # fmt: skip
    add("--matcher", choices=list(confs.matchers), help="default: the one that suits the feature")
    add("--masks", type=Path, metavar="DIR", help="no keypoints where DIR/<image name>.png is black")
    _add_computation(command)


def add_merge(command: argparse.ArgumentParser) -> None:
    """The options of ``merge``."""
    command.set_defaults(run=_merge)
    add = command.add_argument
    add("map", type=Path, metavar="MAP", help="output folder of pipelines.sfm with several models in sparse/")
    add("--output", type=Path, metavar="DIR", help="folder of the merged model (default: MAP/merged)")
    add("--seed", type=int, default=0, help="of all random choices (default: %(default)s)")


def add_align(command: argparse.ArgumentParser) -> None:
    """The options of ``align``."""
    command.set_defaults(run=_align)
    add = command.add_argument
    add("model", type=Path, metavar="MODEL", help="output folder of pipelines.sfm, or a COLMAP model")
    target = command.add_mutually_exclusive_group(required=True)
    target.add_argument("--positions", type=Path, metavar="FILE",
        help="where cameras are: 'name x y z' a line, in any Cartesian frame")  # fmt: skip
    target.add_argument("--to", type=Path, metavar="MODEL", help="a model with some of the same images")
    add("--output", type=Path, required=True, metavar="DIR", help="folder of the moved model")
    add("--max-error", type=float, metavar="D",
        help="positions further off do not count (default: a fiftieth of their extent)")  # fmt: skip
    add("--seed", type=int, default=0, help="of RANSAC (default: %(default)s)")


def _add_computation(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--device", default="auto", help="torch device: auto, cpu, cuda, cuda:1, ... (default: %(default)s)")
    add("--seed", type=int, default=0, help="of all random choices (default: %(default)s)")
    add("--threads", type=int, default=-1, metavar="N", help="for COLMAP (default: all cores)")
    add("--quiet", action="store_true", help="no progress bars")


def _triangulate(args: argparse.Namespace) -> bool:
    """Make a map at known poses, and say what it holds."""
    feature, matcher = configurations(chosen(args, FeatureOptions))
    options = TriangulateOptions(
        feature, matcher, args.pairs, args.neighbors, refine=args.refine, masks=args.masks, device=args.device,
        seed=args.seed, threads=args.threads, progress=not args.quiet,
    )  # fmt: skip
    made = triangulate_images(args.model, args.images, args.output, options)
    _write_summary(args, made.model, args.images, args.feature)
    lines = [f"{made.model.registered} images at their known poses, {args.feature}"]
    if made.posed > len(made.extraction.names):
        lines.append(
            f"  without features    {made.posed - len(made.extraction.names)}: not in {args.images}, or unreadable"
        )
    lines += _describe(made.model)
    if args.refine:
        lines.append(f"  poses moved by      {made.moved:.4g} (median, in the units of the model)")
    lines.append(f"  localize in it      python -m pipelines.localize --map {args.output} --queries DIR")
    print("\n".join([*lines, *listing("skipped", made.extraction.skipped)]))
    return True


def _register(args: argparse.Namespace) -> bool:
    """Grow a map, and say what became of the new photographs; False where none joined."""
    output: Path = args.output or args.map.with_name(f"{args.map.resolve().name}-grown")
    output.mkdir(parents=True, exist_ok=True)
    send_colmap_log_to(output / "logs")
    options = RegisterOptions(
        args.images, args.matcher, args.neighbors, args.retrieval, masks=args.masks, device=args.device,
        extension=ExtensionOptions(args.move, seed=args.seed, threads=args.threads), progress=not args.quiet,
    )  # fmt: skip
    grown = register_images(args.map, output, options)
    args.output = output
    _write_summary(args, grown.model, grown.images, grown.feature)
    new = len(grown.registered) + len(grown.failed)
    lines = [f"{len(grown.registered)} of {new} new images joined the {grown.before} of {args.map}"]
    lines += _describe(grown.model)
    stay = "stay to the last digit" if grown.moved == 0 else f"changed by at most {grown.moved:.3g}"
    lines.append(f"  old poses           {stay}; the coordinate frame is the map's")
    print("\n".join([*lines, *listing("not registered", grown.failed)]))
    return bool(grown.registered)


def _merge(args: argparse.Namespace) -> bool:
    """Merge the models of a run; False where none could be."""
    sparse: Path = args.map / "sparse"
    folders = sorted((p for p in sparse.glob("*") if p.name.isdigit()), key=lambda p: int(p.name))
    if len(folders) < 2 or not (args.map / "database.db").is_file():
        raise ConfigurationError(
            f"{args.map}: merging needs several models in sparse/, not {len(folders)}, and their database.db"
        )
    models = [read_model(folder) for folder in folders]
    target, joined = merge_models(models, args.map / "database.db", args.seed)
    for one in joined:
        print(f"model {one.number} joined model 0: {one.agreed} of {one.common} common points agree")
    left = len(models) - 1 - len(joined)
    if not joined:
        print(f"none of the {left} other models shares enough points with model 0")
        return False
    output: Path = args.output or args.map / "merged"
    with only_writer(output):
        write_model(target, output)
    print("\n".join(_describe(summarize(target, output))))
    if left:
        print(f"  left apart          {left} models")
    return True


def _align(args: argparse.Namespace) -> bool:
    """Move a model, and say how well it fits."""
    folder = find_model(args.model)
    if folder is None:
        raise ConfigurationError(f"{args.model}: no COLMAP model here or in sparse/0")
    model = read_model(folder)
    try:
        if args.to is not None:
            target = find_model(args.to)
            if target is None:
                raise ConfigurationError(f"{args.to}: no COLMAP model here or in sparse/0")
            found = align_to_model(model, read_model(target))
        else:
            found = align_to_positions(model, read_camera_positions(args.positions), args.max_error, args.seed)
    except MappingError as error:
        raise MappingError(f"{args.model}: cannot be aligned to {args.to or args.positions}: {error}") from error
    with only_writer(args.output):
        write_model(model, args.output)
    fit = f"{found.common} cameras at a median distance of {found.distance:.4g}"
    print(f"{args.output}: scale {found.similarity.scale:.6g}, {fit}")
    if found.note:
        print(f"note: {found.note}")
    return True


def _describe(model: ModelSummary) -> list[str]:
    return [
        f"  points              {model.points:,}".replace(",", " "),
        f"  track length        {model.track_length:.2f} observations in {model.images_per_point:.2f} images",
        f"  reprojection error  {model.reprojection_error:.2f} px",
        f"  model               {model.path}",
    ]


def _write_summary(args: argparse.Namespace, model: ModelSummary, images: Path, feature: str) -> None:
    """What ``localize`` and ``export`` look for in the folder of a map."""
    command: dict[str, Any] = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k != "run"}
    command |= {"images": str(images), "feature": feature}
    if command.get("weights") is None:
        command["weights"] = recorded_command(getattr(args, "map", args.output)).get("weights")
    found = {"registered": model.registered, "model": model.as_dict(), "command": command}
    write_atomically(args.output / "summary.json", json.dumps(found, indent=2, ensure_ascii=False) + "\n")
