"""What a run recorded of the model that is exported."""

from __future__ import annotations

from pathlib import Path

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.sfm.models import find_model
from posfeat_hloc.sfm.summary import recorded_command


def model_and_folders(
    path: Path, images: Path | None = None, masks: Path | None = None
) -> tuple[Path, Path | None, Path | None]:
    """The model of an output folder, and the folders of its photographs and masks.

    Args:
        path: output folder of a reconstruction, or a COLMAP model in one or elsewhere.
        images, masks: where the run had them when None; None where that is unknown.

    Raises:
        ConfigurationError: no model there.
    """
    model = find_model(path)
    if model is None:
        raise ConfigurationError(f"{path}: no COLMAP model here or in sparse/0")
    folders = (path, *path.resolve().parents[:2])  # the model itself, sparse/, or the output folder
    known = next((found for folder in folders if (found := recorded_command(folder)).get("images")), {})
    images, masks = (
        given or (Path(known[name]) if known.get(name) else None)
        for name, given in (("images", images), ("masks", masks))
    )
    return model, images, masks
