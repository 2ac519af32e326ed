"""What is said of the images before the work begins: how they are paired, and whether one camera took them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipelines.sfm_pairs import default_pairs
from pipelines.summary import Run
from posfeat_hloc.images.formats import open_image

_EXIF_IFD, _FOCAL_LENGTH, _FOCAL_LENGTH_35MM = 0x8769, 0x920A, 0xA405


def choose_and_tell(args: argparse.Namespace, names: Sequence[str], run: Run) -> None:
    """Set ``args.pairs`` where the command line leaves it open, and say what the user may want to change."""
    if args.pairs is None:
        args.pairs, why = default_pairs(len(names))
        if why:
            run.tell(why)
    if args.camera == "auto" and args.camera_params is None and not (args.demo or args.video):
        size = only_size_without_exif(args.images, names)
        if size is not None:
            run.tell(
                f"no image has a focal length in EXIF, and all are {size[0]}x{size[1]}; if one camera with one zoom "
                "took them, add --camera single: one focal length is found more exactly than one for each image"
            )


def only_size_without_exif(images: Path, names: Sequence[str]) -> tuple[int, int] | None:
    """The size (w, h) that all images have, where none of them has a focal length in EXIF; None otherwise.

    Only headers are read, up to the first image that differs. Files that cannot be read are left out; two images say
    nothing.
    """
    sizes = set()
    count = 0
    for name in names:
        try:
            with open_image(images / name) as file:
                sizes.add(file.size)
                tags = file.getexif().get_ifd(_EXIF_IFD)
        except Exception:  # damaged files are told of when they are decoded
            continue
        count += 1
        if len(sizes) > 1 or tags.get(_FOCAL_LENGTH) or tags.get(_FOCAL_LENGTH_35MM):
            return None
    return sizes.pop() if count > 2 else None
