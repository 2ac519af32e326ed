"""Aachen Day-Night, from the folder of the data set to the file for visuallocalization.net.

    python -m pipelines.aachen --feature posfeat-small --dataset aachen_v1.1

Two protocols: ``hloc`` (database pairs by covisibility, query pairs by retrieval, PnP; day and night) and
``challenge`` (the local feature challenge: given pairs, registration by COLMAP; night). Versions and folder layouts are
found out. Run the same command again to resume; --dry-run checks the data set and says how long it will take.
"""

from __future__ import annotations

import argparse
import json
import sys
from copy import deepcopy
from pathlib import Path

from pipelines.argument_types import add_network_options, add_orientation, add_pose_options, positive, thresholds
from posfeat_hloc import confs
from posfeat_hloc.aachen.estimate import as_table, estimate
from posfeat_hloc.aachen.layout import PROTOCOLS, VERSIONS, Dataset, open_dataset
from posfeat_hloc.aachen.protocols import ProtocolOptions, run_protocol
from posfeat_hloc.cli.arguments import chosen
from posfeat_hloc.cli.exit_codes import exit_code
from posfeat_hloc.cli.page import add_report_option, write_page
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.evaluation.poses import THRESHOLDS, read_true_poses
from posfeat_hloc.localization.options import LocalizationOptions
from posfeat_hloc.runtime.colmap_log import send_colmap_log_to
from posfeat_hloc.runtime.output import only_writer, write_atomically
from posfeat_hloc.sfm.options import FeatureOptions
from posfeat_hloc.sfm.settings import configurations


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run; the exit code is 0 when queries were localized, or a dry run found no fault."""
    args = _parser().parse_args(argv)
    return exit_code(lambda: aachen(args), args.output, "run the same command again to go on from here")


def aachen(args: argparse.Namespace) -> bool:
    """Run a protocol, print the summary and write ``summary.json``.

    Raises:
        PosfeatError: for anything a user can mend.
    """
    dataset = open_dataset(args.dataset, args.version, args.protocol)
    if args.pairs is not None and args.protocol == "challenge":
        raise ConfigurationError("--pairs: the challenge protocol takes the pairs of the data set; use --protocol hloc")
    options = protocol_options(args)
    if args.protocol == "challenge" and options.localization != LocalizationOptions():
        raise ConfigurationError(
            "--max-error, --min-inliers, --covisibility-clustering and --fallback are for --protocol hloc; the "
            "challenge leaves the poses of its queries to COLMAP"
        )
    truth = None if args.ground_truth is None else read_true_poses(args.ground_truth, dataset.query_names)
    if args.dry_run:
        print(_describe(dataset, args.feature))
        print(as_table(estimate(dataset, options)))
        return True
    output = args.output or Path("outputs") / f"aachen-{dataset.version}-{dataset.protocol}-{args.feature}"
    summary = output / "summary.json"
    with only_writer(output):
        send_colmap_log_to(output / "logs")
        report = run_protocol(dataset, options, output, truth, args.thresholds)
        write_atomically(summary, json.dumps(report.as_json(vars(args)), indent=2, ensure_ascii=False) + "\n")
    print(report.as_text())
    print(f"  details             {summary}")
    write_page(output, args)
    return any(trial.localized for trial in report.trials)


def protocol_options(args: argparse.Namespace) -> ProtocolOptions:
    """The options that the command line asks for."""
    feature, matcher = configurations(chosen(args, FeatureOptions))
    return ProtocolOptions(
        feature=args.feature,
        feature_conf=feature,
        matcher_conf=matcher,
        retrieval_conf=deepcopy(confs.retrieval[args.retrieval]),
        retrieved=args.neighbors,
        pairs=args.pairs,
        localization=LocalizationOptions(
            args.max_error,
            args.min_inliers,
            covisibility_clustering=args.covisibility_clustering,
            fallback=args.fallback,
        ),
        seeds=tuple(range(args.seed, args.seed + args.repeat)),
        device=args.device,
        threads=args.threads,
        progress=not args.quiet,
        orientation=args.orientation,
    )


def _describe(dataset: Dataset, feature: str) -> str:
    return (
        f"{dataset.root}: complete Aachen {dataset.version}, {dataset.protocol} protocol with {feature}: "
        f"{len(dataset.database_names)} database images, {len(dataset.query_names)} queries"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.aachen", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--feature", choices=list(confs.extractors), required=True, help="conf of the features")
    add("--version", choices=VERSIONS, help="of the data set (default: found out; v1.1 where both are)")
    add("--protocol", choices=PROTOCOLS, default="hloc", help="default: %(default)s")
    add("--dataset", type=Path, default=Path("datasets/aachen"), metavar="DIR", help="default: %(default)s")
    add("--output", type=Path, metavar="DIR",
        help="folder of results (default: outputs/aachen-<version>-<protocol>-<feature>)")  # fmt: skip
    add_network_options(parser)
    add("--max-size", type=positive, metavar="PX",
        help="shrink images to this longest side for extraction (default: the conf's)")  # fmt: skip
    add("--max-keypoints", type=positive, metavar="N", help="keypoints in an image (default: the conf's)")
    add_orientation(parser)
    add("--neighbors", type=positive, default=50, metavar="N",
        help="most similar database images for a query (default: %(default)s)")  # fmt: skip
    add("--retrieval", choices=list(confs.retrieval), default="vlad-hardnet",
        help="what similarity is (default: %(default)s)")  # fmt: skip
    add("--pairs", type=Path, metavar="FILE",
        help="query and database image a line, as hloc publishes; no retrieval then")  # fmt: skip
    add_pose_options(parser)
    add("--ground-truth", type=Path, metavar="FILE",
        help="poses of queries ('name qw qx qy qz tx ty tz' a line, or a COLMAP model); recall is printed")  # fmt: skip
    add("--thresholds", type=thresholds, default=THRESHOLDS, metavar="'D,A D,A ...'",
        help="distances and degrees of the recall (default: 0.25,2 0.5,5 5,10, the benchmark's)")  # fmt: skip
    add("--seed", type=int, default=0, help="of all random choices (default: %(default)s)")
    add("--repeat", type=positive, default=1, metavar="N",
        help="run the random part with N seeds; recall is printed with its standard deviation")  # fmt: skip
    add("--dry-run", action="store_true", help="check the data set and estimate time and disk; writes nothing")
    add("--device", default="auto", help="torch device: auto, cpu, cuda, cuda:1, ... (default: %(default)s)")
    add("--threads", type=int, default=-1, metavar="N",
        help="for COLMAP; 1 makes runs repeatable to the last digit (default: all cores)")  # fmt: skip
    add("--quiet", action="store_true", help="no progress bars")
    add_report_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
