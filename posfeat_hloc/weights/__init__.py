"""Which weights exist, where they are, and how they are checked and loaded.

Weights trained by this project lie in the folder ``weights/`` (in an installed package: ``_weights``), are named in
:data:`BUNDLED` and checked against their SHA-256. The authors' own checkpoints are named in :data:`PUBLIC`,
downloaded once and checked against the hash of their repository or release. Any other checkpoint is given by its path.
"""

from posfeat_hloc.weights.files import (
    Checkpoint,
    download,
    is_published,
    load,
    load_parts,
    public_path,
    save,
    weights_folder,
)
from posfeat_hloc.weights.registry import (
    BUNDLED,
    OUR_LICENCE,
    PUBLIC,
    Bundled,
    Public,
    bundled_name,
    git_blob,
    plain_name,
    sha256,
    version_of,
)

__all__ = [
    "BUNDLED",
    "OUR_LICENCE",
    "PUBLIC",
    "Bundled",
    "Checkpoint",
    "Public",
    "bundled_name",
    "download",
    "git_blob",
    "is_published",
    "load",
    "load_parts",
    "plain_name",
    "public_path",
    "save",
    "sha256",
    "version_of",
    "weights_folder",
]
