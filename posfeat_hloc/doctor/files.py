"""Whether this machine writes and reads the files of this package: features in HDF5, COLMAP's databases."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pycolmap

from posfeat_hloc.doctor.findings import Finding
from posfeat_hloc.errors import PosfeatError
from posfeat_hloc.features import Features
from posfeat_hloc.stores import FeatureStore


def check_features() -> Finding:
    """Features written, committed and read again."""
    rng = np.random.default_rng(0)
    keypoints, scores = rng.uniform(0, 999, (50, 2)), rng.random(50)
    descriptors = np.eye(128)[:50]
    features = Features(keypoints.astype(np.float32), scores.astype(np.float32), descriptors.astype(np.float32))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "features.h5"
        try:
            with FeatureStore(path, {"model": {}}) as store:
                store.write("folder/a.jpg", features, (1000, 1000))
                store.commit()
            with FeatureStore(path) as store:
                read = store.read("folder/a.jpg")
        except (PosfeatError, OSError) as error:
            return Finding("fail", str(error), "free some space in the folder of temporary files, or set TMPDIR")
    arrays = ((features.keypoints, read.keypoints), (features.scores, read.scores), (descriptors, read.descriptors))
    if not all(np.array_equal(written, found) for written, found in arrays):
        return Finding("fail", "what is read is not what was written", "pip install --force-reinstall h5py")
    return Finding("ok", "written and read again")


def check_database() -> Finding:
    """A COLMAP database with one camera, written and read again."""
    repair = "pip install --force-reinstall pycolmap"
    camera = pycolmap.Camera.create_from_model_name(1, "SIMPLE_RADIAL", 800.0, 640, 480)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "database.db"
        try:
            with pycolmap.Database.open(path) as database:
                number = database.write_camera(camera)
            with pycolmap.Database.open(path) as database:
                read = database.read_camera(number)
        except (OSError, RuntimeError, ValueError, AttributeError, TypeError) as error:  # and another API
            return Finding("fail", f"pycolmap's database does not work ({type(error).__name__}: {error})", repair)
    if (read.width, read.height, list(read.params)) != (640, 480, [800.0, 320.0, 240.0, 0.0]):
        return Finding("fail", "what is read is not what was written", repair)
    return Finding("ok", "written and read again")
