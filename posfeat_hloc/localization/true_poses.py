"""True poses of queries, which localization is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from posfeat_hloc.errors import MappingError
from posfeat_hloc.evaluation.poses import TrueCamera
from posfeat_hloc.localization.submission import read_results
from posfeat_hloc.sfm.models import read_model


def read_true_poses(path: Path, names: Sequence[str]) -> dict[str, TrueCamera]:
    """True poses of queries, from a COLMAP model or from a file ``name qw qx qy qz tx ty tz``.

    Args:
        path: folder of the model, or the file.
        names: of the queries; where a file has none of a name, the name without folders is looked up.

    Returns:
        name of the query -> camera, for those whose pose is known.

    Raises:
        MappingError, ConfigurationError: nothing can be read, or it holds none of the queries.
    """
    if path.is_dir():
        images = read_model(path).images.values()
        poses = {image.name: image.cam_from_world() for image in images if image.has_pose}
    else:
        poses = read_results(path)
    result = {}
    for name in names:
        pose = poses.get(name, poses.get(name.rpartition("/")[2]))
        if pose is not None:
            result[name] = TrueCamera(pose.rotation.matrix(), pose.inverse().translation)
    if not result:
        raise MappingError(f"{path}: holds the pose of none of the {len(names)} queries; check their names")
    return result
