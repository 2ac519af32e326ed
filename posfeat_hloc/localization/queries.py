"""The images to localize, as folders, files and lists name them, and what is known of their cameras."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

import pycolmap

from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.images.decoding import list_images, read_image
from posfeat_hloc.images.formats import EXTENSIONS
from posfeat_hloc.runtime.text_files import numbered_lines
from posfeat_hloc.sfm.cameras import CameraOptions, assign_cameras
from posfeat_hloc.stores import FeatureStore


@dataclass(frozen=True)
class Query:
    """An image to localize.

    Attributes:
        name: of the image, relative to the folder of the queries.
        camera: its intrinsics in COLMAP's convention, the centre of the top-left pixel at ``(0.5, 0.5)``, for the
            pixels as the file stores them.
        calibrated: whether the intrinsics are known. Otherwise the focal length is refined with the pose, and
            estimated from scratch where it does not even come from EXIF (``camera.has_prior_focal_length``).
    """

    name: str
    camera: pycolmap.Camera
    calibrated: bool = True


def read_queries(path: Path) -> list[Query]:
    """Read a list of queries with intrinsics, ``name MODEL width height params...`` a line, as hloc's.

    Names may contain spaces. Empty lines and lines that start with ``#`` are left out.

    Raises:
        ConfigurationError: no such file, no queries in it, a line of another form, or a name that occurs twice.
    """
    for name, query, where in _lines(Path(path)):
        if query is None:
            raise ConfigurationError(
                f"{where}: {name!r} has no intrinsics; write 'name MODEL width height params...', or localize a folder "
                "of photographs to have focal lengths guessed"
            )
    return read_query_lists([path])[0]


def read_query_lists(paths: Sequence[Path], images: Path | None = None) -> tuple[list[Query], list[str]]:
    """Read lists of queries, with intrinsics or without: a line is ``name MODEL width height params...``, or a name.

    Returns:
        the queries with intrinsics, and the names of those without.

    Raises:
        ConfigurationError: see :func:`read_queries`; a name must not occur in two lists, either.
    """
    queries: dict[str, Query | None] = {}
    first: dict[str, str] = {}
    for path in paths:
        for name, query, line in _lines(Path(path), images):
            if name in queries:
                raise ConfigurationError(f"{line}: {name!r} is already in {first[name]}; remove one of them")
            queries[name], first[name] = query, line
    if not queries:
        raise ConfigurationError(f"{paths[0]}: holds no queries")
    return [query for query in queries.values() if query], [name for name, query in queries.items() if not query]


def _lines(path: Path, images: Path | None = None) -> Iterator[tuple[str, Query | None, str]]:
    """Name, query with intrinsics or None, and where it stands, of each line."""
    for number, line in numbered_lines(path, "a list of queries"):
        where = f"{path}, line {number}"
        try:
            query = None if _is_a_name(line) else _parse(line)
        except ValueError as error:
            if line.startswith("#"):
                continue
            raise ConfigurationError(f"{where}: {error}") from error
        name = line.strip() if query is None else query.name
        if not line.startswith("#") or (images is not None and (images / name).is_file()):
            yield name, query, where


def queries_of_folder(
    folder: Path, sizes: Mapping[str, tuple[int, int]] | None = None, model: str = "SIMPLE_RADIAL"
) -> list[Query]:
    """A query for each photograph of a folder, with the focal length of its EXIF tags or COLMAP's guess.

    Args:
        folder: searched recursively.
        sizes: image name -> (width, height) as stored, of the images to take; all images of the folder, decoded to
            find their sizes, when None.
        model: COLMAP camera model.

    Raises:
        ConfigurationError: no such folder, or no images in it.
        ImageError: an image cannot be decoded.
    """
    if sizes is None:
        sizes = {name: read_image(folder / name).stored_size for name in list_images(folder)}
    cameras = assign_cameras(folder, sizes, CameraOptions("image", model))
    return [Query(names[0], camera, calibrated=False) for camera, names in cameras]


def guess_camera(
    size: tuple[int, int], focal_length: float | None = None, model: str = "SIMPLE_RADIAL"
) -> pycolmap.Camera:
    """A camera for an image of ``size`` (w, h), with a focal length to start from or COLMAP's guess.

    Raises:
        ConfigurationError: the focal length is not positive.
    """
    if focal_length is not None and not 0 < focal_length < math.inf:
        raise ConfigurationError(f"a focal length must be a positive number of pixels, not {focal_length}")
    camera = pycolmap.Camera.create_from_model_name(1, model, focal_length or 1.2 * max(size), *size)
    camera.has_prior_focal_length = focal_length is not None
    return camera


def _parse(line: str) -> Query:
    """One line of a list; the last word that is not a number is the camera model, what precedes it is the name."""
    words = list(re.finditer(r"\S+", line))
    position = max((i for i, word in enumerate(words) if _number(word[0]) is None), default=0)
    if position == 0:
        raise ValueError(
            f"{line.strip()!r} has no intrinsics; write 'name MODEL width height params...', or localize a folder of "
            "photographs to have focal lengths guessed"
        )
    model, values = words[position][0], [word[0] for word in words[position + 1 :]]
    if model not in pycolmap.CameraModelId.__members__ or model == "INVALID":
        models = ", ".join(name for name in pycolmap.CameraModelId.__members__ if name != "INVALID")
        raise ValueError(
            f"camera model {model!r} does not exist; write 'name MODEL width height params...' with {models}"
        )
    if len(values) < 2 or not all(re.fullmatch(r"\+?0*[1-9][0-9]{0,8}", value) for value in values[:2]):
        raise ValueError(f"width and height after {model} must be two positive whole numbers")
    width, height = int(values[0]), int(values[1])
    camera = pycolmap.Camera.create_from_model_name(1, model, 1.0, width, height)
    params = [float(value) for value in values[2:]]
    if len(params) != len(camera.params):
        raise ValueError(
            f"camera model {model} has {len(camera.params)} parameters ({camera.params_info}), not {len(params)}"
        )
    if not all(map(math.isfinite, params)):
        raise ValueError("a camera parameter is not a finite number")
    camera.params = params
    if any(params[i] <= 0 for i in camera.focal_length_idxs()):
        raise ValueError("the focal length must be positive")
    camera.has_prior_focal_length = True
    return Query(line[: words[position].start()].strip(), camera)


def _is_a_name(line: str) -> bool:
    """Whether a line says nothing of a camera: it ends with a word that is neither a number nor a camera model."""
    last = line.split()[-1]
    return _number(last) is None and last not in pycolmap.CameraModelId.__members__


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


@dataclass(frozen=True)
class Asked:
    """Which images are to be localized.

    Attributes:
        images: their folder.
        names: in it.
        queries: with intrinsics; those of the other names are guessed.
    """

    images: Path
    names: list[str]
    queries: list[Query] = field(default_factory=list)

    @classmethod
    def of(cls, given: Sequence[Path | str], images: Path | None) -> Asked:
        """The queries that paths and patterns name.

        Args:
            given: one folder, photographs, lists, or patterns of such files.
            images: folder of a list's photographs; the list's own when None.

        Raises:
            ConfigurationError: nothing of this name, or paths that do not go together.
        """
        paths = [path for text in given for path in _meant(str(text))]
        if any(path.is_dir() for path in paths):
            if len(paths) > 1:
                raise ConfigurationError(
                    Option("queries"), f": takes one folder, or several files, not {len(paths)} of both"
                )
            if images is not None and images != paths[0]:
                raise ConfigurationError(
                    Option("images"), " is for a list of queries; a folder holds its own photographs"
                )
            return cls(paths[0], list_images(paths[0]))
        if all(path.suffix.lower() in EXTENSIONS for path in paths):
            return cls._of_photographs(paths)
        folder = images or paths[0].parent
        queries, bare = read_query_lists(paths, folder)
        names = [*(query.name for query in queries), *bare]
        if not any((folder / name).is_file() for name in names):
            raise ConfigurationError(
                f"{folder}: holds none of the {len(names)} images of {paths[0]}, such as {names[0]!r}; "
                "name their folder by ", Option("images"),
            )  # fmt: skip
        return cls(folder, names, queries)

    @classmethod
    def _of_photographs(cls, paths: Sequence[Path]) -> Asked:
        folders = {path.parent for path in paths}
        if len(folders) > 1:
            raise ConfigurationError(
                Option("queries"), f": photographs of {len(folders)} folders; give one folder that holds them all"
            )
        return cls(folders.pop(), sorted({path.name for path in paths}))

    def with_guesses(self, features: Path, usable: Sequence[str]) -> list[Query]:
        """All queries: those without intrinsics that could be read get a guessed focal length."""
        known = {query.name for query in self.queries}
        with FeatureStore(features) as store:
            sizes = {name: store.image_size(name) for name in usable if name not in known}
        return [*self.queries, *(queries_of_folder(self.images, sizes) if sizes else [])]


def _meant(text: str) -> list[Path]:
    """The file or folder that a word names, or all that a pattern with ``*`` fits."""
    path = Path(text)
    if path.exists():
        return [path]
    found = [Path(name) for name in sorted(glob(text, recursive=True))]
    if not found:
        raise ConfigurationError(
            f"{text}: no such file or folder; ", Option("queries"), " takes lists, photographs or a folder"
        )
    return found
