"""An hloc script with two added lines: all features and matchers of this package, by their names, in hloc's functions.

python examples/inside_hloc.py photos results

With pycolmap 4, hloc's triangulation ends without a point unless it is called in a
``with posfeat_hloc.hloc_plugin.patch_triangulation():`` block.
"""

import sys
from pathlib import Path

import posfeat_hloc  # added, before hloc: it loads Pillow before pycolmap, which otherwise aborts when a PNG is saved

from hloc import extract_features, match_features, pairs_from_exhaustive, reconstruction  # isort: skip

posfeat_hloc.register()  # added

images, outputs = Path(sys.argv[1]), Path(sys.argv[2])
pairs, matches = outputs / "pairs.txt", outputs / "matches.h5"

features = extract_features.main(extract_features.confs["posfeat-small"], images, outputs)
pairs_from_exhaustive.main(pairs, features=features)
match_features.main(match_features.confs["NN-mutual"], pairs, features, matches=matches)
model = reconstruction.main(outputs / "sfm", images, pairs, features, matches)
print(model.summary())
