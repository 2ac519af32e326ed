"""GPS positions: EXIF as cameras write it, metres by an independent formula, pairs, priors."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.sfm.gps import (
    ERROR,
    LocalPositions,
    Position,
    local_positions,
    position_pairs,
    read_position,
    read_positions,
    write_priors,
)

PARIS = {1: "N", 2: (48.0, 51.0, 29.6), 3: "E", 4: (2.0, 17.0, 40.2), 5: b"\0", 6: 35.5, 31: 4.5}


def photograph(path: Path, tags: dict[int, Any]) -> Path:
    exif = Image.Exif()
    exif[0x8825] = tags
    Image.new("L", (64, 48)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_positions_are_read_as_written(tmp_path: Path, name: str) -> None:
    found = read_position(photograph(tmp_path / name, PARIS))
    assert found is not None
    assert_allclose([found.latitude, found.longitude], [48 + 51 / 60 + 29.6 / 3600, 2 + 17 / 60 + 40.2 / 3600])
    assert (found.altitude, found.error) == (35.5, 4.5)


@pytest.mark.parametrize("south", ["N", "S"])
@pytest.mark.parametrize("west", ["E", "W"])
@pytest.mark.parametrize("below", [b"\0", b"\1"])
def test_signs_are_those_that_colmap_reads(tmp_path: Path, south: str, west: str, below: bytes) -> None:
    path = photograph(tmp_path / "a.jpg", {**PARIS, 1: south, 3: west, 5: below})
    found, bitmap = read_position(path), pycolmap.Bitmap.read(path, False)
    assert found is not None
    expected = [bitmap.exif_latitude(), bitmap.exif_longitude()]
    assert_allclose([found.latitude, found.longitude], expected, atol=1e-6)
    assert found.altitude == (-35.5 if below == b"\1" else 35.5)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {k: v for k, v in PARIS.items() if k != 4},
        {**PARIS, 2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)},  # no reception
        {**PARIS, 2: (91.0, 0.0, 0.0)},
        {**PARIS, 2: (IFDRational(0, 0),) * 3},
        {**PARIS, 2: (48.0, 51.0)},
    ],
)
def test_no_position_is_made_up(tmp_path: Path, tags: dict[int, Any]) -> None:
    assert read_position(photograph(tmp_path / "a.jpg", tags)) is None


def test_files_without_tags_have_no_position(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "plain.png")
    (tmp_path / "text.jpg").write_text("no picture")
    photograph(tmp_path / "paris.jpg", {k: v for k, v in PARIS.items() if k < 5})
    names = ["plain.png", "text.jpg", "none.jpg", "paris.jpg"]
    found = read_positions(tmp_path, names)
    assert list(found) == ["paris.jpg"]
    assert (found["paris.jpg"].altitude, found["paris.jpg"].error) == (None, ERROR)


@given(latitude=st.floats(-80, 80), longitude=st.floats(-170, 170), north=st.floats(-1, 1), east=st.floats(-1, 1))
def test_metres_agree_with_the_radii_of_the_ellipsoid(
    latitude: float, longitude: float, north: float, east: float
) -> None:
    """Two positions within some 100 m: metres a degree from the radii of curvature of WGS 84."""
    square = 0.00669437999014  # of the eccentricity
    sine = np.sin(np.radians(latitude))
    prime = 6378137 / np.sqrt(1 - square * sine**2)
    meridian = 6378137 * (1 - square) / (1 - square * sine**2) ** 1.5
    other = Position(latitude + north / 1000, longitude + east / 1000, 30.0)
    here = Position(latitude, longitude, 10.0)
    metres = local_positions({"a": here, "b": other, "c": here}).metres  # the median is here
    expected = [
        prime * np.cos(np.radians(latitude)) * np.radians(east / 1000), meridian * np.radians(north / 1000), 20.0
    ]  # fmt: skip
    assert_allclose(metres["b"] - metres["a"], expected, atol=0.02)
    assert_allclose(metres["a"], 0, atol=1e-6)


def test_missing_altitudes_are_that_of_the_origin() -> None:
    found = local_positions({"a": Position(10, 20, 100, 2), "b": Position(10, 20), "c": Position(10, 20, 104, 8)})
    assert found.origin == (10, 20, 102)
    assert_allclose([found.metres[name][2] for name in "abc"], [-2, 0, 2], atol=1e-6)
    assert found.error == 5
    with pytest.raises(ConfigurationError, match="none of the images"):
        local_positions({})


@given(places=st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), max_size=12), count=st.integers(1, 4))
def test_every_image_meets_its_nearest_ones(places: list[tuple[int, int]], count: int) -> None:
    names = [f"{i:02d}" for i in range(len(places))]
    metres = {name: np.array([*place, 0.0]) for name, place in zip(names, places, strict=True)}
    pairs = position_pairs([*names, "lost"], LocalPositions((0, 0, 0), metres, 5), count)
    found = {frozenset(pair) for pair in pairs}
    assert len(found) == len(pairs)
    assert all(len(pair) == 2 for pair in found)
    expected = {frozenset((name, "lost")) for name in names}
    for i, here in enumerate(places):
        others = [j for j in range(len(places)) if j != i]
        others.sort(key=lambda j: (here[0] - places[j][0]) ** 2 + (here[1] - places[j][1]) ** 2)
        expected |= {frozenset((names[i], names[j])) for j in others[:count]}
    assert found == expected


def test_priors_in_a_database_are_those_of_the_images(tmp_path: Path) -> None:
    path = tmp_path / "database.db"
    with pycolmap.Database.open(path) as db:
        camera = pycolmap.Camera.create_from_model_name(1, "SIMPLE_PINHOLE", 50.0, 64, 48)
        camera.camera_id = db.write_camera(camera)
        ids = {name: db.write_image(pycolmap.Image(name=name, camera_id=camera.camera_id)) for name in "abc"}
    write_priors(path, {"b": Position(9, 9, 9), "c": Position(9, 9, 9)})
    write_priors(path, {"a": Position(48, 2, 30, 3), "b": Position(48, 2), "z": Position(1, 1, 1)})
    with pycolmap.Database.open(path) as db:
        (prior,) = db.read_all_pose_priors()
        assert prior.corr_data_id == db.read_image(ids["a"]).data_id
    assert prior.coordinate_system == pycolmap.PosePriorCoordinateSystem.WGS84
    assert prior.position.tolist() == [48, 2, 30]
    assert np.diag(prior.position_covariance).tolist() == [9, 9, 81]


def test_pairs_of_a_row_are_neighbours() -> None:
    metres = {name: np.array([float(i), 0, 0]) for i, name in enumerate("abcdef")}
    pairs = position_pairs(list("abcdef"), LocalPositions((0, 0, 0), metres, 5), 1)
    assert {frozenset(pair) for pair in pairs} == {frozenset(pair) for pair in itertools.pairwise("abcdef")}


@pytest.mark.parametrize(("latitude", "longitude"), [("GpsLatitude", "GpsLongitude"), ("Latitude", "Longtitude")])
def test_digits_that_a_drone_wrote_into_xmp_are_used(tmp_path: Path, latitude: str, longitude: str) -> None:
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (48.0, 59.0, 0.0), 3: "E", 4: (8.0, 27.0, 0.0), 5: b"\0", 6: 120.0}
    places = {"a.jpg": (48.98901, 8.45007), "other.jpg": (12.5, 8.45007)}
    for name, (north, east) in places.items():
        xmp = f'<x drone-dji:{latitude}="+{north}" drone-dji:{longitude}="+{east}"/>'.encode()
        Image.new("RGB", (64, 48)).save(tmp_path / name, exif=exif, xmp=xmp)
    found = read_positions(tmp_path, places)
    assert (found["a.jpg"].latitude, found["a.jpg"].longitude) == places["a.jpg"]
    assert found["other.jpg"].latitude == pytest.approx(48 + 59 / 60)  # another place


def test_hemispheres_in_small_letters_count(tmp_path: Path) -> None:
    found = read_position(photograph(tmp_path / "a.jpg", PARIS | {1: "s", 3: "w"}))
    assert found is not None
    assert found.latitude < -48
    assert found.longitude < -2


def test_hemispheres_that_are_not_said_are_told(tmp_path: Path) -> None:
    tags = {key: value for key, value in PARIS.items() if key not in (1, 3)}
    found = read_position(photograph(tmp_path / "a.jpg", tags))
    assert found is not None
    assert found.assumed
    assert found.latitude > 48
    for missing in (1, 3):
        half = read_position(photograph(tmp_path / "c.jpg", {k: v for k, v in PARIS.items() if k != missing}))
        assert half is not None
        assert half.assumed
    whole = read_position(photograph(tmp_path / "b.jpg", PARIS))
    assert whole is not None
    assert not whole.assumed
