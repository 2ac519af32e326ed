"""The eight EXIF orientations: upright pixels for the network, keypoints in the pixels as stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from posfeat_hloc.images.decoding import DecodedImage, read_image

Pixels = NDArray[np.uint8]

UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    # the EXIF standard: which side of the image the first stored row and the first stored column are
    1: lambda stored: stored,  # top, left
    2: lambda stored: stored[:, ::-1],  # top, right
    3: lambda stored: stored[::-1, ::-1],  # bottom, right
    4: lambda stored: stored[::-1],  # bottom, left
    5: lambda stored: stored.T,  # left, top
    6: lambda stored: stored.T[:, ::-1],  # right, top
    7: lambda stored: stored.T[::-1, ::-1],  # right, bottom
    8: lambda stored: stored.T[::-1],  # left, bottom
}

LOSSLESS: dict[str, dict[str, object]] = {
    "x.png": {},
    "raw.tif": {},
    "packed.tif": {"compression": "tiff_lzw"},
    "x.webp": {"lossless": True},
}

DIFFERENT = np.arange(5 * 7, dtype=np.uint8).reshape(5, 7) * 7
"""An image without two equal pixels."""


def oriented(path: Path, stored: Pixels, orientation: int, **options: object) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_pixel_of_every_orientation(tmp_path: Path, orientation: int, name: str) -> None:
    stored = DIFFERENT
    path = oriented(tmp_path / name, stored, orientation, **LOSSLESS[name])
    image = read_image(path, grayscale=True)
    assert_array_equal(image.pixels, UPRIGHT[orientation](stored))
    assert image.orientation == orientation
    assert image.size == UPRIGHT[orientation](stored).shape[::-1]
    assert image.stored_size == (7, 5)
    assert bool(image.notes) == (orientation != 1)
    y, x = np.indices(image.pixels.shape)
    points = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    moved = image.to_stored(points)
    assert moved.dtype == np.float32
    for (x0, y0), (x1, y1) in zip(points.astype(int), moved, strict=True):
        assert image.pixels[y0, x0] == stored[int(y1), int(x1)]
        assert (x1 % 1, y1 % 1) == (0, 0)


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_as_stored_when_not_upright(tmp_path: Path, orientation: int, name: str) -> None:
    path = oriented(tmp_path / name, DIFFERENT, orientation, **LOSSLESS[name])
    image = read_image(path, grayscale=True, upright=False)
    assert_array_equal(image.pixels, DIFFERENT)
    assert (image.orientation, image.stored_size, image.notes) == (1, (7, 5), ())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_blob_in_a_photograph_is_found_where_other_programs_see_it(tmp_path: Path, orientation: int) -> None:
    stored = np.full((48, 80), 30, np.uint8)
    stored[8:16, 56:64] = 230  # one block of the JPEG
    path = oriented(tmp_path / "x.jpg", stored, orientation, quality=95)
    image = read_image(path, grayscale=True)
    y, x = np.nonzero(image.pixels > 128)
    center = np.array([[x.mean(), y.mean()]], np.float32)
    assert_array_equal(image.to_stored(center), [[59.5, 11.5]])
    # an independent decoder, told to leave the image as it is, as hloc does
    raw = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    y, x = np.nonzero(raw > 128)
    assert (x.mean(), y.mean()) == (59.5, 11.5)
    assert image.stored_size == raw.shape[::-1]


@pytest.mark.parametrize("orientation", range(1, 9))
@given(x=st.floats(-0.5, 6.5, width=32), y=st.floats(-0.5, 4.5, width=32))
def test_subpixel_positions_move_with_their_pixel(orientation: int, x: float, y: float) -> None:
    upright = UPRIGHT[orientation](DIFFERENT)
    image = DecodedImage(upright, orientation)
    x, y = (x, y) if orientation < 5 else (y, x)
    (x1, y1), (xc, yc) = image.to_stored(np.array([(x, y), (round(x), round(y))], np.float32))
    assert max(abs(x1 - xc), abs(y1 - yc)) <= 0.5 + 1e-5
    np.testing.assert_allclose(np.hypot(x1 - xc, y1 - yc), np.hypot(x - round(x), y - round(y)), atol=1e-5)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientations_that_do_not_exist_are_upright(tmp_path: Path, orientation: int) -> None:
    image = read_image(oriented(tmp_path / "x.png", DIFFERENT, orientation), grayscale=True)
    assert_array_equal(image.pixels, DIFFERENT)
    assert (image.orientation, image.notes) == (1, ())


def test_damaged_exif_does_not_cost_the_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    intact = exif.tobytes()
    path = tmp_path / "x.jpg"
    for length in range(6, len(intact)):
        Image.fromarray(DIFFERENT).save(path, exif=intact[:length], quality=100)
        image = read_image(path, grayscale=True)
        assert image.stored_size == (7, 5)
        turned = UPRIGHT[image.orientation](DIFFERENT)
        assert np.abs(image.pixels.astype(int) - turned).max() < 6


@pytest.mark.parametrize("quarters", range(-1, 5))
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_that_is_turned_further_still_knows_its_stored_pixels(orientation: int, quarters: int) -> None:
    turned = DecodedImage(UPRIGHT[orientation](DIFFERENT), orientation).rot90(quarters)
    # numpy turns the other way
    assert_array_equal(turned.pixels, np.rot90(UPRIGHT[orientation](DIFFERENT), 4 - quarters))
    assert turned.stored_size == (7, 5)
    assert_array_equal(turned.pixels_to_stored(turned.pixels), DIFFERENT)
