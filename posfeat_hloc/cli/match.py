"""Match pairs of images, into a file in hloc's layout.

    posfeat-hloc match --export_dir results --pairs pairs.txt

The options are those of `python -m hloc.match_features`. Run the same command again to resume. `--engine hloc` lets an
installed hloc do the work.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from posfeat_hloc import confs
from posfeat_hloc.cli.arguments import reading
from posfeat_hloc.cli.engines import add_common, choose_conf, run_hloc
from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.runtime.memory import memory_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of hloc's command, and ours."""
    add = parser.add_argument
    add("--pairs", type=Path, required=True, metavar="FILE", help="two names a line")
    add("--export_dir", "--output", type=Path, metavar="DIR",
        help="folder of the match file, and of the features given by name")  # fmt: skip
    add("--features", default=f"feats-{confs.DEFAULT_FEATURE}", metavar="NAME|FILE", help="default: %(default)s")
    add("--matches", type=Path, metavar="FILE", help="the match file (default: named as hloc names it)")
    add("--memory", type=reading(memory_size), default="1G", metavar="SIZE",
        help="for descriptors, e.g. 500M or 2G; (default: %(default)s; not for --engine hloc)")  # fmt: skip
    add_common(parser, confs.default_matchers[confs.DEFAULT_FEATURE])


def run(args: argparse.Namespace) -> bool:
    """Match pairs of images."""
    from posfeat_hloc import match_features
    from posfeat_hloc.stores import FeatureStore
    from posfeat_hloc.stores.pairs import read_pairs

    conf = choose_conf(args, "match")
    features, folder = _feature_file(args)
    path = args.matches or folder / f"{features.stem}_{conf['output']}_{args.pairs.stem}.h5"
    if args.engine == "hloc":
        with FeatureStore(features) as store:
            read_pairs(args.pairs, store.names())  # for hloc a name without features means to wait for ever
        run_hloc("match", args, conf, args.pairs, features, matches=path, overwrite=args.overwrite)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {"overwrite": args.overwrite, "device": args.device, "memory": args.memory}
        match_features.main(conf, args.pairs, features, matches=path, **options)
    print(f"matches: {path}")
    return True


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
