"""Which photographs are to be localized: a folder, files, lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.images.decoding import list_images
from posfeat_hloc.images.formats import EXTENSIONS
from posfeat_hloc.localization.queries import Query, queries_of_folder, read_query_lists
from posfeat_hloc.stores import FeatureStore


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
