"""One of hloc's own pipelines with the features of this package; what follows its name are its own options.

python examples/hloc_pipelines.py --feature posfeat-small hloc.pipelines.Cambridge.pipeline --scenes ShopFacade
"""

import argparse
import runpy
import sys

from posfeat_hloc import confs
from posfeat_hloc.hloc_plugin import features_in_pipelines

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--feature", choices=list(confs.extractors), default=confs.DEFAULT_FEATURE)
parser.add_argument("--matcher", choices=list(confs.matchers), help="default: the one that suits the feature")
parser.add_argument(
    "--retrieval", choices=[*confs.retrieval, "hloc"], default="vlad-hardnet", help="in place of NetVLAD"
)
parser.add_argument("--max-keypoints", type=int)
parser.add_argument(
    "pipeline", metavar="MODULE", help="e.g. hloc.pipelines.7Scenes.pipeline, hloc.pipelines.CMU.pipeline"
)
parser.add_argument("options", nargs=argparse.REMAINDER, help="options of the pipeline")

if __name__ == "__main__":
    args = parser.parse_args()
    retrieval = None if args.retrieval == "hloc" else args.retrieval
    sys.argv = [args.pipeline, *args.options]
    with features_in_pipelines(args.feature, args.matcher, retrieval, args.max_keypoints):
        runpy.run_module(args.pipeline, run_name="__main__")
