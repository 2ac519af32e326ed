"""Listing and decoding of image files: modes and damage; every problem is an error that names the file."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from posfeat_hloc.errors import ConfigurationError, ImageError
from posfeat_hloc.images import decoding, formats
from posfeat_hloc.images.decoding import list_images, read_image
from posfeat_hloc.images.resampling import resize
from tests.images.test_orientation import DIFFERENT, oriented


def save(path: Path, values: NDArray[np.generic], **options: object) -> Path:
    Image.fromarray(values).save(path, **options)
    return path


COLORS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [200, 100, 0], [255, 255, 255]]], np.uint8)


def test_color_stays_or_becomes_grey(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", COLORS)
    color = read_image(path)
    assert_array_equal(color.pixels, COLORS)
    luma = COLORS @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    grey = read_image(path, grayscale=True)
    assert np.abs(grey.pixels - luma).max() <= 0.51
    assert color.notes == grey.notes == ()


def test_grey_files_fill_three_channels(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", DIFFERENT)
    assert_array_equal(read_image(path).pixels, np.stack([DIFFERENT] * 3, axis=2))
    assert_array_equal(read_image(path, grayscale=True).pixels, DIFFERENT)


def test_one_bit_pictures(tmp_path: Path) -> None:
    bits = DIFFERENT > 100
    assert_array_equal(read_image(save(tmp_path / "x.png", bits), grayscale=True).pixels, bits * 255)


@pytest.mark.parametrize("grayscale", [True, False])
def test_transparent_becomes_black(tmp_path: Path, grayscale: bool) -> None:
    rgba = np.array([[[200, 200, 200, 255], [200, 200, 200, 0], [200, 200, 200, 128]]], np.uint8)
    image = read_image(save(tmp_path / "x.png", rgba), grayscale)
    expected = np.array([[200, 0, 100]], np.uint8)
    assert_array_equal(image.pixels, expected if grayscale else np.stack([expected] * 3, axis=2))
    assert image.notes == ("transparent pixels were made black and get no keypoints",)


def test_opaque_alpha_is_nothing_to_note(tmp_path: Path) -> None:
    rgba = np.dstack([COLORS, np.full(COLORS.shape[:2], 255, np.uint8)])
    image = read_image(save(tmp_path / "x.png", rgba))
    assert_array_equal(image.pixels, COLORS)
    assert image.notes == ()


def test_grey_with_alpha(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.merge(
        "LA", [Image.fromarray(np.array([[200, 100]], np.uint8)), Image.fromarray(np.array([[0, 255]], np.uint8))]
    ).save(path)
    image = read_image(path, grayscale=True)
    assert_array_equal(image.pixels, [[0, 100]])
    assert image.notes == ("transparent pixels were made black and get no keypoints",)


def test_palette_with_transparency(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8), mode="P")
    picture.putpalette([250, 0, 0, 0, 250, 0, 0, 0, 250])
    picture.save(tmp_path / "opaque.png")
    picture.save(tmp_path / "clear.png", transparency=1)
    red, green, blue = [250, 0, 0], [0, 250, 0], [0, 0, 250]
    assert_array_equal(read_image(tmp_path / "opaque.png").pixels, [[red, green, blue]])
    image = read_image(tmp_path / "clear.png")
    assert_array_equal(image.pixels, [[red, [0, 0, 0], blue]])
    assert image.notes == ("transparent pixels were made black and get no keypoints",)


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_16_bits_are_scaled(tmp_path: Path, ending: str) -> None:
    values = np.array([[0, 128, 129, 256, 257, 32768, 65535]], np.uint16)
    path = tmp_path / f"x.{ending}"
    cv2.imwrite(str(path), values)
    for grayscale in (True, False):
        image = read_image(path, grayscale)
        expected = np.array([[0, 0, 1, 1, 1, 128, 255]])  # round(value / 257)
        assert_array_equal(image.pixels, expected if grayscale else np.stack([expected] * 3, axis=2))
        assert image.notes == ("16-bit values were scaled to 8 bits",)


def test_16_bit_color_is_scaled(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), np.array([[[0, 32768, 65535]]], np.uint16))  # blue, green, red
    assert np.abs(read_image(tmp_path / "x.png").pixels[0, 0] - np.array([255, 127.5, 0])).max() <= 1


def test_floating_point_values_are_scaled(tmp_path: Path) -> None:
    for top in (1.0, 40.0):
        values = np.array([[0, 0.25, 0.5, 1]], np.float32) * top
        image = read_image(save(tmp_path / "x.tif", values), grayscale=True)
        assert_array_equal(image.pixels, [[0, 64, 128, 255]])
        assert image.notes == ("high dynamic range values were scaled to 8 bits",)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    inks = np.zeros((16, 64, 4), np.uint8)
    for block, ink in enumerate([(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255)]):
        inks[:, 16 * block : 16 * block + 16] = ink
    Image.fromarray(inks, mode="CMYK").save(tmp_path / "x.jpg", quality=95)
    image = read_image(tmp_path / "x.jpg")
    expected = np.array([(255, 255, 255), (0, 255, 255), (255, 0, 0), (0, 0, 0)])
    assert np.abs(image.pixels[8, 8::16] - expected).max() < 10
    assert image.notes == ("CMYK was converted to RGB",)


@pytest.mark.parametrize(("ending", "options"), [("webp", {"lossless": True}), ("png", {}), ("tif", {})])
def test_first_frame_of_several(tmp_path: Path, ending: str, options: dict[str, object]) -> None:
    frames = [Image.fromarray(np.roll(COLORS, i, axis=2)) for i in range(3)]
    frames[0].save(tmp_path / f"x.{ending}", save_all=True, append_images=frames[1:], **options)
    image = read_image(tmp_path / f"x.{ending}")
    assert_array_equal(image.pixels, COLORS)
    assert image.notes == ("animation or multi-page file: only the first frame is used",)


def test_stereo_pairs_of_phones_are_plain_photographs(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (200, 100, 0)).save(
        tmp_path / "x.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8), (0, 0, 200))]
    )
    image = read_image(tmp_path / "x.jpg")
    assert np.abs(image.pixels.astype(int) - (200, 100, 0)).max() < 5
    assert image.notes == ()


def test_pixel_of_its_own(tmp_path: Path) -> None:
    image = read_image(oriented(tmp_path / "x.png", np.array([[77]], np.uint8), 6), grayscale=True)
    assert_array_equal(image.pixels, [[77]])
    assert_array_equal(image.to_stored(np.zeros((1, 2), np.float32)), [[0, 0]])
    assert resize(image.pixels, 1).shape == (1, 1)


def test_very_wide_picture(tmp_path: Path) -> None:
    wide = np.zeros((30, 20000), np.uint8)
    wide[:, 10000:] = 255
    pixels = read_image(save(tmp_path / "x.png", wide), grayscale=True).pixels
    assert_array_equal(pixels, wide)
    small = resize(pixels, 1600)
    assert small.shape == (2, 1600)
    assert_array_equal(small[0, [0, 799, 800, 1599]], [0, 0, 255, 255])
    assert resize(pixels, 100).shape == (1, 100)
    assert_array_equal(resize(pixels.T, 1600), small.T)


def test_resize_averages_areas() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    for factor in (2, 4):
        expected = picture.reshape(40 // factor, factor, 60 // factor, factor).mean(axis=(1, 3))
        assert np.abs(resize(picture, 60 // factor) - expected).max() <= 0.51
    for limit in (None, 60, 61, 1000):
        assert_array_equal(resize(picture, limit), picture)


def assert_refused(path: Path, reason: str) -> None:
    for grayscale in (True, False):
        with pytest.raises(ImageError, match=reason) as caught:
            read_image(path, grayscale)
        assert str(path) in str(caught.value)


def test_truncated_photograph(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    whole = save(tmp_path / "whole.jpg", picture).read_bytes()
    path = tmp_path / "with ü.jpg"
    for length in [1, 2, 3, 10, 20, *range(100, len(whole) - 100, 499), len(whole) - 50]:
        path.write_bytes(whole[:length])
        assert_refused(path, "not an image|may be truncated")
    path.write_bytes(whole)
    assert_array_equal(read_image(path).pixels, read_image(tmp_path / "whole.jpg").pixels)


@pytest.mark.parametrize("ending", ["png", "tif", "webp", "bmp", "ppm"])
def test_half_a_file(tmp_path: Path, ending: str) -> None:
    path = save(tmp_path / f"x.{ending}", np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert_refused(path, "not an image|may be truncated")


def test_files_that_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("not a photograph\n" * 50)
    assert_refused(tmp_path / "notes.jpg", "not an image that can be decoded")
    (tmp_path / "empty.jpg").touch()
    assert_refused(tmp_path / "empty.jpg", "the file is empty")
    (tmp_path / "folder.jpg").mkdir()
    assert_refused(tmp_path / "folder.jpg", "cannot be decoded")
    assert_refused(tmp_path / "missing.jpg", "no such file")
    assert_refused(tmp_path / "missing folder" / "x.jpg", "no such file")
    (tmp_path / "program.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    assert_refused(tmp_path / "program.jpg", "not an image that can be decoded")  # and is not run


def test_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "x.png", DIFFERENT)

    def refuse(*_: object) -> None:  # for root, no file is without permission
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert_refused(path, "Permission denied.*check its permissions")


def test_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "x.png", DIFFERENT)
    monkeypatch.setattr(formats, "MOST_PIXELS", DIFFERENT.size - 1)
    assert_refused(path, "too many pixels")
    monkeypatch.setattr(formats, "MOST_PIXELS", DIFFERENT.size)
    assert_array_equal(read_image(path, grayscale=True).pixels, DIFFERENT)


def test_200_megapixels_are_read(tmp_path: Path) -> None:
    """Pillow alone refuses them, and still does afterwards."""
    path = tmp_path / "x.png"
    Image.new("1", (20_000, 10_000), 1).save(path, compress_level=1)
    assert read_image(path, grayscale=True).pixels.shape == (10_000, 20_000)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)


def test_any_exception_of_a_decoder_is_an_image_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "x.png", DIFFERENT)

    def fail(*_: object) -> None:
        raise ZeroDivisionError("in a decoder")

    monkeypatch.setattr(decoding, "_to_8_bit", fail)
    assert_refused(path, "in a decoder")


HEADS = [b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"RIFF\x20\0\0\0WEBPVP8 ", b"BM", b"P5\n"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.sampled_from(HEADS), st.binary(max_size=200))
def test_random_bytes(tmp_path: Path, head: bytes, data: bytes) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(head + data)
    assert_decoded_or_refused(path)


def assert_decoded_or_refused(path: Path) -> None:
    try:
        pixels, message = read_image(path).pixels, str(path)
    except ImageError as error:
        pixels, message = np.zeros((1, 1, 3), np.uint8), str(error)
    assert str(path) in message
    assert (pixels.dtype, pixels.shape[2:]) == (np.uint8, (3,))


INTACT = {
    "jpg": ("JPEG", {"quality": 60}),
    "png": ("PNG", {}),
    "tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "webp": ("WEBP", {}),
    "bmp": ("BMP", {}),
    "ppm": ("PPM", {}),
}


@pytest.mark.parametrize("ending", INTACT)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=5))
def test_damaged_files(tmp_path: Path, ending: str, changes: list[tuple[int, int]]) -> None:
    path = tmp_path / f"x.{ending}"
    kind, options = INTACT[ending]
    exif = (
        {}
        if ending in ("bmp", "ppm")
        else {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"}
    )
    Image.fromarray(COLORS).save(path, kind, **options, **exif)
    data = bytearray(path.read_bytes())
    for position, value in changes:
        data[position % len(data)] = value
    path.write_bytes(data)
    assert_decoded_or_refused(path)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_list_of_images(tmp_path: Path) -> None:
    wanted = ["A.JPG", "b.Jpeg", "c/ü ö/d e.png", "c/z.TIFF", "c.jpg/f.webp", "z.pgm", "~.ppm", "é.bmp", "é.tif"]
    other = ["notes.txt", "a.gif", "jpg", "x.jpg.part", ".hidden.jpg", ".cache/x.jpg", "c/.thumb/x.png", "d/._A.JPG"]
    touch(tmp_path, *wanted, *other)
    assert list_images(tmp_path) == sorted(wanted)


def test_folders_without_images(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt", ".x.jpg")
    with pytest.raises(ConfigurationError, match=r"no images in this folder \(1 file .*; looked for .*\.jpg") as caught:
        list_images(tmp_path)
    assert str(tmp_path) in str(caught.value)
    for path in (tmp_path / "missing", tmp_path / "notes.txt"):
        with pytest.raises(ConfigurationError, match="no such folder") as caught:
            list_images(path)
        assert str(path) in str(caught.value)


def test_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/x.jpg", "b/y.jpg")
    real = Path.iterdir

    def iterdir(folder: Path) -> object:
        if folder.name == "b":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(ConfigurationError, match=re.escape(str(tmp_path / "b")) + r".*Permission denied"):
        list_images(tmp_path)


def test_links(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "y.jpg")
    touch(tmp_path / "photos", "a/x.jpg")
    (tmp_path / "photos" / "a" / "back").symlink_to(tmp_path / "photos")  # a loop
    (tmp_path / "photos" / "there").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "lost.jpg").symlink_to(tmp_path / "nothing")
    assert list_images(tmp_path / "photos") == ["a/x.jpg", "lost.jpg", "there/y.jpg"]
    assert_refused(tmp_path / "photos" / "lost.jpg", "no such file")
