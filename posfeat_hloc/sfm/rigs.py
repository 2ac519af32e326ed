"""Rigs: cameras that are mounted together, as COLMAP's rig configuration file describes them.

A file names for each camera of a rig the beginning of its images' names, such as ``left/`` and ``right/``; what follows
is the same for images that were taken at the same time, and these make a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path

import pycolmap

from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.images.listing import natural_order
from posfeat_hloc.sfm.pairs import sequential_pairs
from posfeat_hloc.stores.pairs import Pair, unique_pairs


def read_rigs(path: Path) -> list[pycolmap.RigConfig]:
    """Read a rig configuration file whose relative poses are all known.

    Raises:
        ConfigurationError: no such file, not of that form, or a camera without a pose in its rig.
    """
    if not path.is_file():
        raise ConfigurationError(
            f"{path}: no such file; ", Option("rig"), " takes COLMAP's rig configuration, a .json file"
        )
    try:
        rigs = list(pycolmap.read_rig_config(path))
    except (RuntimeError, ValueError) as error:
        raise ConfigurationError(
            f"{path}: not a rig configuration ({error}); see https://colmap.github.io/rigs.html"
        ) from error
    for rig in rigs:
        for camera in rig.cameras:
            if not camera.ref_sensor and camera.cam_from_rig is None:
                raise ConfigurationError(
                    f"{path}: the camera {camera.image_prefix!r} has no cam_from_rig_rotation and "
                    "cam_from_rig_translation; reconstruct without ",
                    Option("rig"),
                    " once, and take them from that model (COLMAP's rig_configurator writes it with --output_path)",
                )
    return rigs


def frames_of(rigs: Sequence[pycolmap.RigConfig], names: Sequence[str]) -> list[list[str]]:
    """Images that were taken at the same time, frame by frame in the natural order of their names.

    Raises:
        ConfigurationError: no frame has two images.
    """
    frames: dict[tuple[int, str], list[str]] = {}
    for name in sorted(names):
        for number, rig in enumerate(rigs):
            prefix = next((c.image_prefix for c in rig.cameras if name.startswith(c.image_prefix)), None)
            if prefix is not None:
                frames.setdefault((number, name.removeprefix(prefix)), []).append(name)
                break
    result = [frames[key] for key in sorted(frames, key=lambda key: (key[0], natural_order(key[1])))]
    if not any(len(frame) > 1 for frame in result):
        prefixes = ", ".join(repr(camera.image_prefix) for rig in rigs for camera in rig.cameras)
        raise ConfigurationError(
            Option("rig"),
            f": no two images were taken at the same time; their names must be equal after the rig's {prefixes}, "
            f"but are such as {sorted(names)[0]!r}",
        )
    return result


def simultaneous_pairs(frames: Sequence[Sequence[str]]) -> list[Pair]:
    """Each image with the others of its frame."""
    return [pair for frame in frames for pair in combinations(frame, 2)]


def sequential_frame_pairs(frames: Sequence[Sequence[str]], overlap: int) -> list[Pair]:
    """All images of each frame with all images of the next ones, in the steps of :func:`sequential_pairs`, and with one
    another: COLMAP's sequential matcher with rigs.

    Args:
        frames: in the order of exposure; of several rigs one after the other.
        overlap: neighbouring frames on each side.
    """
    numbers = {f"{i:09d}": frame for i, frame in enumerate(frames)}
    near = [
        pair
        for first, second in sequential_pairs(numbers, overlap)
        for pair in product(numbers[first], numbers[second])
    ]
    return unique_pairs([*simultaneous_pairs(frames), *near])


def apply_rigs(database: Path, rigs: Sequence[pycolmap.RigConfig]) -> None:
    """Give the images of a database their rigs and frames, and cameras the intrinsics that the configuration has.

    Raises:
        ConfigurationError: the images of one prefix have several cameras.
    """
    try:
        with pycolmap.Database.open(database) as db:
            pycolmap.apply_rig_config(list(rigs), db)
    except (RuntimeError, ValueError) as error:
        raise ConfigurationError(
            Option("rig"),
            f": cannot be applied ({error}); all images of a prefix need one camera: ",
            Option("camera", "folder"),
        ) from error
