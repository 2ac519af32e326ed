"""Feature files of the images of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from posfeat_hloc.extract_features import extract
from posfeat_hloc.extractors.choice import FeatureChoice
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.stores.foreign import check_sizes


def feature_file(
    choice: FeatureChoice, images: Path, names: Sequence[str], folder: Path, device: str, progress: bool
) -> tuple[Path, dict[str, str]]:
    """The file with the features of some images, extracted where they are not there yet.

    Returns:
        the path, and image name -> why it has no features.
    """
    if choice.conf is None:
        assert choice.file is not None
        with FeatureStore(choice.file) as store:
            store.require(names, f"of {len(names)} images are missing")
            check_sizes(store, images, names)
        return choice.file, {}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{choice.stem}.h5"
    report = extract(choice.conf, images, path, names, device, progress=progress)
    return path, report.skipped
