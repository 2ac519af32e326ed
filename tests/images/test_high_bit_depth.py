"""More than 8 bits: the range of a folder decides what becomes white, whatever a single image holds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from posfeat_hloc import confs
from posfeat_hloc.extract_features import extract
from posfeat_hloc.images.decoding import read_image
from posfeat_hloc.images.high_bit_depth import Usage, ValueRange, is_deep, ranges_of
from posfeat_hloc.images.loader import ImageInputs
from posfeat_hloc.stores import FeatureStore
from tests.conftest import Texture


def write(path: Path, values: NDArray[np.generic]) -> Path:
    assert cv2.imwrite(str(path), values if values.ndim == 2 else values[..., ::-1])
    return path


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_depths_of_cameras_give_the_same_picture(tmp_path: Path, texture: Texture, bits: int, ending: str) -> None:
    grey = texture(0).astype(np.float64) / 255
    path = write(tmp_path / f"x.{ending}", np.round(grey * (2**bits - 1)).astype(np.uint16))
    assert is_deep(path)
    assert ranges_of(tmp_path, [path.name]) == {path.name: ValueRange(0, 2**bits - 1)}
    image = read_image(path, grayscale=True)
    assert np.abs(image.pixels - texture(0).astype(int)).max() <= 1
    assert image.notes == (f"{bits}-bit values were scaled to 8 bits",)


@pytest.mark.parametrize("ending", ["png", "tif", "ppm"])
def test_colors_keep_their_depth(tmp_path: Path, texture: Texture, ending: str) -> None:
    colors = np.stack([texture(i) for i in range(3)], axis=2)
    path = write(tmp_path / f"x.{ending}", np.round(colors / 255 * 4095).astype(np.uint16))
    pixels = read_image(path).pixels
    assert np.abs(pixels - colors.astype(int)).max() <= 1  # and not 0 to 15, the upper 8 bits


def test_the_range_is_that_of_the_whole_folder(tmp_path: Path, texture: Texture) -> None:
    bright = np.round(texture(0) / 255 * 4095).astype(np.uint16)
    write(tmp_path / "bright.png", bright)
    write(tmp_path / "dark.png", (bright // 8).astype(np.uint16))
    write(tmp_path / "plain.jpg", texture(1))
    names = ["bright.png", "dark.png", "plain.jpg"]
    ranges = ranges_of(tmp_path, names)
    assert ranges == {"bright.png": ValueRange(0, 4095), "dark.png": ValueRange(0, 4095)}
    dark = read_image(tmp_path / "dark.png", grayscale=True, values=ranges["dark.png"])
    assert np.abs(dark.pixels - texture(0) / 8).max() <= 1.5
    inputs = ImageInputs(tmp_path, ranges=ranges)
    assert inputs.source("dark.png").endswith("12-bit values")  # and features are made anew when it changes
    assert "bit" not in inputs.source("plain.jpg")


def test_few_values_are_spread(tmp_path: Path, texture: Texture) -> None:
    """A thermal camera: 16-bit files, of which it uses a few hundred values."""
    kelvin = np.round(29000 + texture(0) * 3.0).astype(np.uint16)
    path = write(tmp_path / "x.png", kelvin)
    pixels = read_image(path, grayscale=True, values=ranges_of(tmp_path, ["x.png"])["x.png"]).pixels
    assert np.abs(pixels - texture(0).astype(int)).max() <= 3


def test_values_that_are_not_finite(tmp_path: Path, texture: Texture) -> None:
    values = texture(0).astype(np.float32) / 255
    values[3, 4], values[5, 6], values[7, 8] = np.nan, np.inf, -np.inf
    Image.fromarray(values).save(tmp_path / "grey.tif")
    write(tmp_path / "color.tif", np.stack([values] * 3, axis=2))
    for name in ("grey.tif", "color.tif"):
        image = read_image(tmp_path / name, grayscale=True)
        assert_array_equal(image.pixels[[3, 5, 7], [4, 6, 8]], [0, 255, 0])
        ordinary = np.isfinite(values)
        assert np.abs(image.pixels[ordinary] - texture(0)[ordinary].astype(int)).max() <= 1
        assert "values that are not finite were made black or white" in image.notes


@given(st.integers(60, 65535), st.integers(60, 65535))
def test_more_pictures_never_narrow_a_range(top0: int, top1: int) -> None:
    usages = [Usage.of(np.linspace(0, top, 100).reshape(10, 10).astype(np.uint16)) for top in (top0, top1)]
    joined = usages[0].joined(usages[1]).range()
    assert joined.high >= max(top0, top1)
    assert joined.low == 0
    assert joined.high + 1 in {2.0**bits for bits in (8, 10, 12, 14, 16)}


def test_scaling_is_linear() -> None:
    values = np.array([[100.0, 150, 200, 50, 300]])
    assert_allclose(ValueRange(100, 200).to_8_bit(values), [[0, 128, 255, 0, 255]])


def test_12_bits_give_the_keypoints_of_16(tmp_path: Path, texture: Texture) -> None:
    counts = {}
    for bits in (12, 16):
        (tmp_path / str(bits)).mkdir()
        for i in range(2):
            values = np.round(texture(i) / 255 * (2**bits - 1)).astype(np.uint16)
            write(tmp_path / str(bits) / f"{i}.png", values)
        extract(confs.extractors["sift"], tmp_path / str(bits), tmp_path / f"{bits}.h5", progress=False)
        with FeatureStore(tmp_path / f"{bits}.h5") as store:
            counts[bits] = [len(store.keypoints(f"{i}.png")) for i in range(2)]
    assert min(counts[16]) > 50
    assert counts[12] == counts[16]
