"""Which weights exist: their names, versions, licences and hashes, and where those come from that are not bundled."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Bundled:
    """One file of weights shipped with the package."""

    file: str
    sha256: str


BUNDLED: dict[str, Bundled] = {
    "posfeat": Bundled("posfeat-v2.safetensors", "705f08cda892b41aeedca546e841e341b195d18574555bc8eaeb5234161cd341"),
    "posfeat-small": Bundled(
        "posfeat-small-v5.safetensors", "0fa9bafc43413451f8bd99da19cde82c5f3e942ca141e5e9c86cdaab1b1afa5a"
    ),
    "hardnet": Bundled("hardnet-v2.safetensors", "5db8ee5bb2a3c8d00b51b2348ab4d433cfc5acd9246e9d02842b8555eb57e86c"),
    "sosnet": Bundled("sosnet-v2.safetensors", "cb53fe27608802d4e04f00e671c8c26beeafa002807414f13c397a7cb0016bb7"),
}
"""Name used in a conf -> shipped file, whose name tells the version; both names load it."""


def plain_name(name: str) -> str:
    """The name in :data:`BUNDLED` of a versioned name such as ``posfeat-small-v5``; other names are unchanged."""
    return next((plain for plain, entry in BUNDLED.items() if Path(entry.file).stem == name), name)


def version_of(name: str) -> str:
    """The versioned name of bundled weights, e.g. ``posfeat-small-v5`` for ``posfeat-small``."""
    return Path(BUNDLED[name].file).stem


def bundled_name(digest: str | None) -> str | None:
    """The name of the shipped weights with a SHA-256; None where none have it."""
    return next((name for name, entry in BUNDLED.items() if entry.sha256 == digest), None)


@dataclass(frozen=True)
class Public:
    """One checkpoint that its authors publish."""

    url: str
    digest: str
    """SHA-1 by which git knows the file, 40 digits; SHA-256, 64 digits, of a file that is in no repository."""
    licence: str
    """What its repository says of its use; said when the file is fetched."""

    @property
    def digest_kind(self) -> str:
        """Name of the digest, for messages."""
        return "git blob" if len(self.digest) == 40 else "sha256"

    def digest_of(self, path: Path) -> str:
        """The hash of a file, of the same kind as ``digest``."""
        return git_blob(path) if len(self.digest) == 40 else sha256(path)


_HARDNET = "https://github.com/DagnyT/hardnet/raw/master/pretrained"
_SOSNET = "https://github.com/yuruntian/SOSNet/raw/master/sosnet-weights"
_SUPERPOINT = "https://github.com/magicleap/SuperPointPretrainedNetwork/raw/master"
_DISK = "https://github.com/cvlab-epfl/disk/raw/master"
_ALIKED = "https://github.com/Shiaoming/ALIKED/raw/main/models"
_LIGHTGLUE = "https://github.com/cvg/LightGlue/releases/download/v0.1_arxiv"
_XFEAT = "https://github.com/verlab/accelerated_features/raw/main/weights"
_MIT = "MIT licence"
_NONE = "its repository states no licence"
_MAGIC_LEAP = "noncommercial research use only, not to be passed on; see LICENSE in its repository"
_APACHE = "Apache License 2.0"
_BSD = "BSD 3-Clause licence"
PUBLIC: dict[str, Public] = {
    "hardnet++": Public(
        f"{_HARDNET}/pretrained_all_datasets/HardNet%2B%2B.pth", "84aa9c230b7cd6d0a8a7d13b65b39cfb0f406eec", _MIT
    ),
    "hardnet-liberty": Public(
        f"{_HARDNET}/train_liberty/checkpoint_liberty_no_aug.pth", "8694b2a670aec840800966e42cd8c79e3be66e9a", _MIT
    ),
    "hardnet-liberty-aug": Public(
        f"{_HARDNET}/train_liberty_with_aug/checkpoint_liberty_with_aug.pth",
        "c1b2a5f4e79a5f3e50ec9a1ac98a428965cef37b",
        _MIT,
    ),
    "sosnet-liberty": Public(f"{_SOSNET}/sosnet_32x32_liberty.pth", "e1654f36def583bb942cccbe149b0162d57d3d2a", _NONE),
    "sosnet-hpatches": Public(
        f"{_SOSNET}/sosnet_32x32_hpatches_a.pth", "9154f47b3ead6f6eadd21bec48bd9b61e256e704", _NONE
    ),
    "superpoint": Public(f"{_SUPERPOINT}/superpoint_v1.pth", "107a444ca318d487390137d619d49f2f0a3b1ad8", _MAGIC_LEAP),
    "disk-depth": Public(f"{_DISK}/depth-save.pth", "0ae0911444297ea0fa5179ac7e9d0e8d7354d537", _APACHE),
    "disk-epipolar": Public(f"{_DISK}/epipolar-save.pth", "50e68668d376afdfa68c070171c0436318a652d1", _APACHE),
    "aliked-t16": Public(f"{_ALIKED}/aliked-t16.pth", "97822f50c8458b5a92a678f6d9ad747c5c1989c7", _BSD),
    "aliked-n16": Public(f"{_ALIKED}/aliked-n16.pth", "9449ca16f784aff7fa4c88ea0925b41f6411eef0", _BSD),
    "aliked-n16rot": Public(f"{_ALIKED}/aliked-n16rot.pth", "5aad43f3a944dd9461ecc89e648f15f11dc0c9aa", _BSD),
    "aliked-n32": Public(f"{_ALIKED}/aliked-n32.pth", "4a8323b10023acaed1195b4d9235224a363186cc", _BSD),
    "xfeat": Public(f"{_XFEAT}/xfeat.pt", "9da942e9c7406b8add3746bf98d4b1840233cd92", _APACHE),
    "lightglue-superpoint": Public(
        f"{_LIGHTGLUE}/superpoint_lightglue.pth",
        "6ff7040d0a497fc6639337946d7538dae07428c18f77a067a0b5a960e7cc551a",
        _APACHE,
    ),
    "lightglue-disk": Public(
        f"{_LIGHTGLUE}/disk_lightglue.pth", "b5b21d47ea24f2c5e501aec9c91b9716e4c8c3429a4dc1e615c133c4c9378335", _APACHE
    ),
    "lightglue-aliked": Public(
        f"{_LIGHTGLUE}/aliked_lightglue.pth",
        "d975e965b105311a6143194852297dff4f02aea5cc2e10cecfed966ca0e22503",
        _APACHE,
    ),
    "lightglue-xfeat": Public(f"{_XFEAT}/xfeat-lighterglue.pt", "061e168b4d9db6b086172f247c8adcebb76d7ef8", _APACHE),
}
"""Name used in a conf -> the authors' file. The name begins with the architecture."""

OUR_LICENCE = "Apache-2.0"
"""Of the bundled weights."""

BY_PATH: dict[str, str] = {
    "caps": "CAPS's weights do not come with this package: get the pretrained model (MIT licence) to which "
    "https://github.com/qianqianwang68/caps links and give its path as weights (in a conf: the option 'weights')",
    "d2net": "D2-Net's weights do not come with this package: get d2_tf.pth (The Clear BSD License) from "
    "https://dusmanu.com/files/d2-net/d2_tf.pth and give it as weights (in a conf: the option 'weights')",
}
"""Name used in a conf -> how to get weights that are given by their path only."""


def git_blob(path: Path) -> str:
    """The SHA-1 by which git knows a file's content, as hexadecimal digits."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
