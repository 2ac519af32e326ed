"""Pictures of all formats, and COLMAP's look at their EXIF tags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from posfeat_hloc.images.decoding import read_image
from posfeat_hloc.sfm.cameras import CameraOptions, assign_cameras
from tests.fuzzing.readers import Files, Reader, files_of


def readers() -> list[Reader]:
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 255, (23, 31, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = 6, "Camera"
    exif.get_ifd(0x8769)[0x920A] = 4.2
    exif.get_ifd(0x8769)[0xA405] = 28
    pictures: list[tuple[str, Image.Image, dict[str, object]]] = [
        ("a.jpg", rgb, {"exif": exif}), ("b.jpg", rgb.convert("L"), {"progressive": True}),
        ("c.jpg", rgb.convert("CMYK"), {}), ("a.png", rgb, {"exif": exif}), ("b.png", rgb.convert("P"), {}),
        ("c.png", Image.fromarray(rng.integers(0, 60000, (9, 8)).astype(np.uint16)), {}),
        ("d.png", rgb.convert("RGBA"), {}), ("a.tif", rgb, {"compression": "tiff_lzw", "exif": exif}),
        ("b.tif", Image.fromarray(rng.normal(size=(9, 8)).astype(np.float32)), {}),
        ("c.tif", rgb, {"compression": "jpeg"}), ("d.tif", rgb.convert("1"), {"compression": "group4"}),
        ("a.webp", rgb, {}), ("b.webp", rgb, {"lossless": True, "exif": exif}), ("a.bmp", rgb, {}), ("a.ppm", rgb, {}),
        ("a.pgm", rgb.convert("L"), {}),
    ]  # fmt: skip
    seeds = [files_of(lambda folder, n=n, p=p, o=o: p.save(folder / n, **o)) for n, p, o in pictures]  # type: ignore[misc]
    photographs: list[Files] = [seed for seed in seeds if next(iter(seed)).endswith((".jpg", ".png", ".tif"))]
    return [Reader("image", seeds, _read), Reader("EXIF", photographs, _camera)]


def _read(folder: Path) -> None:
    (path,) = folder.iterdir()
    for grayscale, upright in ((True, True), (False, False)):
        image = read_image(path, grayscale, upright)
        assert image.pixels.dtype == np.uint8
        assert image.pixels.size


def _camera(folder: Path) -> None:
    (path,) = folder.iterdir()
    ((camera, _),) = assign_cameras(folder, {path.name: (31, 23)}, CameraOptions())
    assert camera.mean_focal_length() > 0
