"""Extract features of a folder of images, into a file in hloc's layout.

    posfeat-hloc extract --image_dir photos --export_dir results

The options are those of `python -m hloc.extract_features`. Run the same command again to resume. `--engine hloc` lets
an installed hloc do the work.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from posfeat_hloc import confs
from posfeat_hloc.cli.engines import add_common, choose_conf, run_hloc
from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.runtime.options import OrientationMode

if TYPE_CHECKING:
    from posfeat_hloc.orientation import Orientation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of hloc's command, and ours."""
    add = parser.add_argument
    add("--image_dir", "--images", type=Path, required=True, metavar="DIR",
        help="folder of images, searched recursively")  # fmt: skip
    add("--export_dir", "--output", type=Path, required=True, metavar="DIR", help="folder of the feature file")
    add_common(parser, confs.DEFAULT_FEATURE)
    add("--as_half", action="store_true",
        help="half precision with --engine hloc; ours always stores descriptors so, and keypoints never")  # fmt: skip
    add("--image_list", "--image-list", type=Path, metavar="FILE", help="one name per line (default: all images)")
    add("--feature_path", type=Path, metavar="FILE", help="the feature file (default: by the conf, in --export_dir)")
    add("--weights", metavar="NAME|FILE", help="other weights for the conf's network")
    add("--masks", type=Path, metavar="DIR",
        help="no keypoints where DIR/<image name>.png (or the same stem) is black; with our engine only")  # fmt: skip
    add("--orientation", choices=get_args(OrientationMode), default="exif",
        help="auto: by EXIF, and turned where others show that an image lies on its side, which the file records; "
        "exif: by EXIF alone; none: as stored, as hloc's engine always does (default: %(default)s)")  # fmt: skip


def run(args: argparse.Namespace) -> bool:
    """Extract features; whether there are any."""
    from posfeat_hloc.extract_features import extract, read_names
    from posfeat_hloc.extractors.choice import with_weights

    conf = choose_conf(args, "extract")
    if args.weights is not None:
        conf = with_weights(conf, args.conf, args.weights)
    path = args.feature_path or args.export_dir / f"{conf['output']}.h5"
    if args.engine == "hloc":
        if args.masks is not None:
            raise ConfigurationError(Option("masks"), ": hloc knows no masks; leave out ", Option("engine", "hloc"))
        as_given = {"as_half": args.as_half, "image_list": args.image_list, "overwrite": args.overwrite}
        run_hloc("extract", args, conf, args.image_dir, args.export_dir, feature_path=path, **as_given)
        print(f"features: {path}")
        return True
    path.parent.mkdir(parents=True, exist_ok=True)
    names = None if args.image_list is None else read_names(args.image_list, args.image_dir)
    shown = _oriented(conf, args, path, names)
    report = extract(
        conf, args.image_dir, path, names, args.device, args.overwrite, masks=args.masks,
        views=shown.views, exif=shown.exif,
    )  # fmt: skip
    for title, text in shown.remarks().items():
        print(f"{title}: {text}")
    for title, items in (("skipped", report.skipped), ("note", report.notes)):
        for name, reason in items.items():
            print(f"{title}: {name}: {reason}")
    counts = f"{len(report.extracted)} extracted, {len(report.reused)} kept, {len(report.skipped)} skipped"
    print(f"images: {counts}\nfeatures: {path}")
    return bool(report.names)


def _oriented(conf: confs.Conf, args: argparse.Namespace, path: Path, names: list[str] | None) -> Orientation:
    """How images are shown: as the feature file has them, and as the others of these images show."""
    from posfeat_hloc.images.decoding import list_images
    from posfeat_hloc.orientation import choose_views

    small = path.with_name(f"{path.stem}-orientation.h5")
    names = list_images(args.image_dir) if names is None else names
    shown = choose_views(
        args.orientation, conf["model"], args.image_dir, names, small, path, args.device, args.masks,
        resize_max=conf["preprocessing"]["resize_max"],
    )  # fmt: skip
    small.unlink(missing_ok=True)
    return shown
