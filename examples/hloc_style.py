"""The library step by step, for those who know hloc: features, pairs, matches, a model.

python examples/hloc_style.py photos results
"""

import sys
from pathlib import Path

from posfeat_hloc import confs, extract_features, match_features
from posfeat_hloc.sfm.database import build_database, verify
from posfeat_hloc.sfm.pairs import exhaustive_pairs
from posfeat_hloc.sfm.reconstruction import reconstruct
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.stores.pairs import write_pairs

images, outputs = Path(sys.argv[1]), Path(sys.argv[2])

features = extract_features.main(confs.extractors["posfeat-small"], images, outputs)
with FeatureStore(features) as store:
    names = store.names()
    first = store.read(names[0])
    print(f"{names[0]}: {len(first)} keypoints, the best at {first.keypoints[0]}, {first.descriptors.shape}")

pairs = exhaustive_pairs(names)
write_pairs(outputs / "pairs.txt", pairs)
matches = match_features.main(confs.matchers["NN-mutual"], outputs / "pairs.txt", features, outputs)

database = outputs / "database.db"
build_database(database, images, features, matches, names, pairs)
verify(database)
for model in reconstruct(database, images, outputs / "sparse"):
    print(f"{model.path}: {model.registered} images, {model.points} points, {model.reprojection_error:.2f} px")
