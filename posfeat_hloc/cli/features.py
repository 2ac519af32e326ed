"""Features and matches in hloc's layout, by this package or by an installed hloc with its own confs beside ours."""

from __future__ import annotations

import argparse
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from posfeat_hloc import confs
from posfeat_hloc.cli.arguments import ADVANCED, reading
from posfeat_hloc.cli.summary import Summary
from posfeat_hloc.errors import ConfigurationError, HlocError, Option
from posfeat_hloc.runtime.memory import memory_size
from posfeat_hloc.runtime.options import OrientationMode

if TYPE_CHECKING:
    from posfeat_hloc.orientation import Orientation


ENGINES = ("posfeat_hloc", "hloc")


def add_common(parser: argparse.ArgumentParser, conf: str) -> None:
    """``--conf``, ``--overwrite``, ``--device`` and ``--engine``."""
    add = parser.add_argument
    add("--conf", default=conf, metavar="NAME", help="see `posfeat-hloc list` (default: %(default)s)")
    add("--overwrite", action="store_true", help="recompute existing results")
    add("--device", default="auto", help="torch device: auto, cpu, cuda, ... (default: %(default)s)")
    add_engine(parser)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """``--engine``."""
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0],
        help="which package computes; hloc must be installed for hloc (default: %(default)s)")  # fmt: skip


def available(engine: str, verb: str) -> dict[str, confs.Conf]:
    """The confs that an engine knows, by the names it has for them."""
    if engine == "hloc":
        from posfeat_hloc.hloc_plugin import register
        from posfeat_hloc.hloc_plugin.installation import load

        register()
        found: dict[str, confs.Conf] = load(f"hloc.{verb}_features", "confs").confs
        return found
    return confs.extractors if verb == "extract" else confs.matchers


def choose_conf(args: argparse.Namespace, verb: str) -> confs.Conf:
    """A copy of the conf of ``--conf``; our engine also accepts the name of our conf in hloc."""
    from posfeat_hloc.hloc_plugin.registration import PREFIX

    known = available(args.engine, verb)
    name = args.conf if args.engine == "hloc" else args.conf.removeprefix(PREFIX)
    if name not in known:
        raise ConfigurationError(Option("conf"), f": {args.conf!r} is not one of {', '.join(known)}")
    return deepcopy(known[name])


def run_hloc(verb: str, args: argparse.Namespace, *arguments: Any, **options: Any) -> None:
    """Call the ``main`` of hloc's extract_features or match_features; what it complains of becomes an HlocError."""
    from posfeat_hloc.hloc_plugin.installation import load, version

    if args.device != "auto":
        hidden = "hide it with CUDA_VISIBLE_DEVICES="
        raise ConfigurationError(Option("device"), f": hloc uses a GPU if there is one; {hidden}")
    try:
        load(f"hloc.{verb}_features", "main").main(*arguments, **options)
    except (AssertionError, KeyError, ValueError) as error:
        raise HlocError(f"hloc {version()} stopped ({type(error).__name__}: {error})") from error


class Extract:
    """Extract features of a folder of images, into a file in hloc's layout.

        posfeat-hloc extract --image_dir photos --export_dir results

    The options are those of `python -m hloc.extract_features`. Run the same command again to resume. `--engine hloc`
    lets an installed hloc do the work.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The options of hloc's command, and ours."""
        add = parser.add_argument
        add("--image_dir", "--images", type=Path, required=True, metavar="DIR",
            help="folder of images, searched recursively")  # fmt: skip
        add("--export_dir", "--output", type=Path, required=True, metavar="DIR", help="folder of the feature file")
        add("--weights", metavar="NAME|FILE", help="other weights for the conf's network")
        add_common(parser, confs.DEFAULT_FEATURE)
        add = parser.add_argument_group(ADVANCED).add_argument
        add("--as_half", action="store_true",
            help="half precision with --engine hloc; otherwise descriptors are always stored so, and keypoints never"
            )  # fmt: skip
        add("--image_list", "--image-list", type=Path, metavar="FILE", help="one name per line (default: all images)")
        add(
            "--feature_path", type=Path, metavar="FILE", help="the feature file (default: by the conf, in --export_dir)"
        )
        add("--masks", type=Path, metavar="DIR",
            help="no keypoints where DIR/<image name>.png (or the same stem) is black; not with --engine hloc"
            )  # fmt: skip
        add("--orientation", choices=get_args(OrientationMode), default="exif",
            help="auto: by EXIF, and rotated images without a tag are detected and recorded in the file; "
            "exif: by EXIF only; none: as stored, as always with --engine hloc (default: %(default)s)")  # fmt: skip

    @staticmethod
    def run(args: argparse.Namespace) -> Summary:
        """Extract features; whether there are any."""
        from posfeat_hloc.extract_features import extract, read_names
        from posfeat_hloc.extractors.choice import with_weights

        conf = choose_conf(args, "extract")
        if args.weights is not None:
            conf = with_weights(conf, args.conf, args.weights)
        path = args.feature_path or args.export_dir / f"{conf['output']}.h5"
        if args.engine == "hloc":
            if args.masks is not None:
                raise ConfigurationError(
                    Option("masks"), ": hloc does not support masks; leave out ", Option("engine", "hloc")
                )
            as_given = {"as_half": args.as_half, "image_list": args.image_list, "overwrite": args.overwrite}
            run_hloc("extract", args, conf, args.image_dir, args.export_dir, feature_path=path, **as_given)
            return Summary(f"features: {path}", {"features": path})
        path.parent.mkdir(parents=True, exist_ok=True)
        names = None if args.image_list is None else read_names(args.image_list, args.image_dir)
        shown = _oriented(conf, args, path, names)
        report = extract(
            conf, args.image_dir, path, names, args.device, args.overwrite, masks=args.masks,
            views=shown.views, exif=shown.exif,
        )  # fmt: skip
        lines = [f"{title}: {text}" for title, text in shown.remarks().items()]
        for title, items in (("skipped", report.skipped), ("note", report.notes)):
            lines += [f"{title}: {name}: {reason}" for name, reason in items.items()]
        counts = f"{len(report.extracted)} extracted, {len(report.reused)} kept, {len(report.skipped)} skipped"
        data = {
            "features": path, "extracted": len(report.extracted), "kept": len(report.reused), "skipped": report.skipped,
            "notes": report.notes,
        }  # fmt: skip
        return Summary("\n".join([*lines, f"images: {counts}", f"features: {path}"]), data, bool(report.names))


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


class Match:
    """Match pairs of images, into a file in hloc's layout.

        posfeat-hloc match --export_dir results --pairs pairs.txt

    The options are those of `python -m hloc.match_features`. Run the same command again to resume. `--engine hloc` lets
    an installed hloc do the work.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The options of hloc's command, and ours."""
        add = parser.add_argument
        add("--pairs", type=Path, required=True, metavar="FILE", help="two image names per line")
        add("--export_dir", "--output", type=Path, metavar="DIR",
            help="folder of the match file, and of the features given by name")  # fmt: skip
        add("--features", default=f"feats-{confs.DEFAULT_FEATURE}", metavar="NAME|FILE", help="default: %(default)s")
        add("--matches", type=Path, metavar="FILE", help="the match file (default: named as hloc names it)")
        add_common(parser, confs.default_matchers[confs.DEFAULT_FEATURE])
        add = parser.add_argument_group(ADVANCED).add_argument
        add("--memory", type=reading(memory_size), default="1G", metavar="SIZE",
            help="memory for descriptors, e.g. 500M or 2G (default: %(default)s; not for --engine hloc)")  # fmt: skip

    @staticmethod
    def run(args: argparse.Namespace) -> Summary:
        """Match pairs of images."""
        from posfeat_hloc import match_features
        from posfeat_hloc.stores import FeatureStore
        from posfeat_hloc.stores.pairs import read_pairs

        conf = choose_conf(args, "match")
        features, folder = _feature_file(args)
        path = args.matches or folder / f"{features.stem}_{conf['output']}_{args.pairs.stem}.h5"
        if args.engine == "hloc":
            with FeatureStore(features) as store:
                read_pairs(args.pairs, store.names())  # hloc would wait forever for a name without features
            run_hloc("match", args, conf, args.pairs, features, matches=path, overwrite=args.overwrite)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            options = {"overwrite": args.overwrite, "device": args.device, "memory": args.memory}
            match_features.main(conf, args.pairs, features, matches=path, **options)
        return Summary(f"matches: {path}", {"features": features, "matches": path})


def _feature_file(args: argparse.Namespace) -> tuple[Path, Path]:
    """The file that ``--features`` means, a path or a name in ``--export_dir``, and the folder of matches."""
    given = Path(args.features)
    if given.is_file():
        return given, args.export_dir or given.parent
    if args.export_dir is None:
        raise ConfigurationError(
            Option("features"), f": there is no file {given}; for a name, give its folder in --export_dir"
        )
    return args.export_dir / f"{args.features}.h5", args.export_dir


class List:
    """List the confs of features and matches, one line each."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Whose confs."""
        add_engine(parser)

    @staticmethod
    def run(args: argparse.Namespace) -> Summary:
        """Print the confs of both commands."""
        known = {verb: available(args.engine, verb) for verb in ("extract", "match")}
        lines = []
        for verb, named in known.items():
            lines.append(f"{verb} --conf")
            lines += [f"  {name:<24}{describe(conf)}" for name, conf in named.items()]
        return Summary("\n".join(lines), known)


def describe(conf: confs.Conf) -> str:
    """A conf in one line: its model with its options, and how images are read."""
    model = {key: value for key, value in conf["model"].items() if key != "name"}
    settings = [f"{key} {value}" for key, value in model.items()]
    if "preprocessing" in conf:
        reading = conf["preprocessing"]
        size = reading.get("resize_max")
        settings.append("grey" if reading.get("grayscale") else "color")
        settings.append("any size" if size is None else f"at most {size} px")
    name = confs.module_of(conf["model"])
    return f"{name}: {', '.join(settings)}" if settings else name
