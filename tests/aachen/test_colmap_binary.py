import numpy as np
import pycolmap
import pytest

from posfeat_hloc.aachen.colmap_binary import image_names
from posfeat_hloc.errors import MappingError


@pytest.fixture(scope="module")
def model():
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_frames_per_rig, options.num_points3D = 3, 2, 30
    return pycolmap.synthesize_dataset(options)


@pytest.mark.parametrize("kind", ["binary", "text"])
def test_names_are_those_that_colmap_reads(model, tmp_path, kind):
    getattr(model, f"write_{kind}")(tmp_path)
    assert sorted(image_names(tmp_path)) == sorted(image.name for image in model.images.values())
    assert len(image_names(tmp_path)) == 6


def test_a_cut_file_and_an_empty_folder_are_refused(model, tmp_path):
    with pytest.raises(MappingError, match="holds no images"):
        image_names(tmp_path)
    model.write_binary(tmp_path)
    data = (tmp_path / "images.bin").read_bytes()
    for length in np.linspace(0, len(data) - 1, 12).astype(int).tolist():
        (tmp_path / "images.bin").write_bytes(data[:length])
        with pytest.raises(MappingError, match="damaged"):
            image_names(tmp_path)
