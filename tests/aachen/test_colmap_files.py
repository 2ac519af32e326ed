import sqlite3
import struct

import numpy as np
import pycolmap
import pytest

from posfeat_hloc.aachen.colmap_files import image_names, read_prepared, write_prepared
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


def cameras():
    return {
        "db/2.jpg": pycolmap.Camera(model="SIMPLE_RADIAL", width=1600, height=1067, params=[1920.5, 800, 533.5, -0.01]),
        "query/night/a b.jpg": pycolmap.Camera(model="PINHOLE", width=9, height=8, params=[1, 2, 3, 4]),
    }


def test_what_was_written_is_read(tmp_path):
    write_prepared(tmp_path / "d.db", cameras())
    found = read_prepared(tmp_path / "d.db")
    assert list(found) == list(cameras())
    for name, camera in cameras().items():
        assert (found[name].model_name, found[name].width, found[name].height) == (
            camera.model_name, camera.width, camera.height
        )  # fmt: skip
        assert list(found[name].params) == list(camera.params)


def test_images_may_share_a_camera_and_ids_may_have_gaps(tmp_path):
    write_prepared(tmp_path / "d.db", cameras())
    with sqlite3.connect(tmp_path / "d.db") as connection:
        connection.execute(
            "INSERT INTO cameras VALUES (10000, 2, 1600, 1200, ?, 1)", (struct.pack("<4d", 1199.91, 800, 600, -0.03),)
        )
        for number in (10195, 10007):
            connection.execute(
                "INSERT INTO images (image_id, name, camera_id) VALUES (?, ?, 10000)", (number, f"n{number}.jpg")
            )
    found = read_prepared(tmp_path / "d.db")
    assert list(found)[2:] == ["n10007.jpg", "n10195.jpg"]
    assert list(found["n10195.jpg"].params) == [1199.91, 800, 600, -0.03]


def test_databases_of_today_are_read_as_well_and_not_changed(tmp_path):
    with pycolmap.Database.open(tmp_path / "new.db") as db:
        camera = pycolmap.Camera(model="SIMPLE_PINHOLE", width=10, height=8, params=[9, 5, 4])
        db.write_image(pycolmap.Image(name="x.jpg", camera_id=db.write_camera(camera)))
    before = (tmp_path / "new.db").read_bytes()
    assert list(read_prepared(tmp_path / "new.db")["x.jpg"].params) == [9, 5, 4]
    assert (tmp_path / "new.db").read_bytes() == before


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.db").write_text("no database, only text that is long enough to be looked at " * 20)
    sqlite3.connect(tmp_path / "empty.db").close()
    for name in ("text.db", "empty.db", "missing.db"):
        with pytest.raises(MappingError, match=f"{name}: cannot be read as a COLMAP database"):
            read_prepared(tmp_path / name)
