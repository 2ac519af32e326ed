"""Panoramas are told from other images that are twice as wide as high."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from posfeat_hloc.images.panoramas import are_panoramas, is_panorama
from tests.conftest import Texture


def closed(texture: Texture, seed: int) -> Image.Image:
    """Joins at its edges: a stripe of noise that was smoothed around the circle."""
    rng = np.random.default_rng(seed)
    noise = np.tile(rng.normal(size=(128, 256)), (1, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 6)[:, 256:512]
    return Image.fromarray(np.clip(128 + smooth / smooth.std() * 40, 0, 255).astype(np.uint8))


def test_edges_that_join(tmp_path: Path, texture: Texture) -> None:
    for i in range(4):
        closed(texture, i).save(tmp_path / f"{i}.png")
    names = [f"{i}.png" for i in range(4)]
    assert are_panoramas(tmp_path, names)
    Image.fromarray(texture(0, 256, 128)).save(tmp_path / "3.png")  # one that does not join
    assert not are_panoramas(tmp_path, names)
    closed(texture, 3).resize((256, 120)).save(tmp_path / "3.png")  # one of another shape
    assert not are_panoramas(tmp_path, names)


@pytest.mark.parametrize("background", [0, 255])
def test_a_blank_background_joins_and_is_no_panorama(tmp_path: Path, texture: Texture, background: int) -> None:
    picture = np.full((128, 256), background, np.uint8)
    picture[30:90, 80:180] = texture(0, 100, 60)
    Image.fromarray(picture).save(tmp_path / "x.png")
    assert not is_panorama(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("xmp", "expected"),
    [
        ('<x GPano:ProjectionType="equirectangular" GPano:FullPanoWidthPixels="256"/>', True),
        ("<GPano:ProjectionType>equirectangular</GPano:ProjectionType>", True),
        ('<x GPano:ProjectionType="cylindrical"/>', False),
        ('<x GPano:ProjectionType="equirectangular" GPano:CroppedAreaImageWidthPixels="256" '
         'GPano:FullPanoWidthPixels="512"/>', False),
    ],
)  # fmt: skip
def test_metadata_decide(tmp_path: Path, texture: Texture, xmp: str, expected: bool) -> None:
    picture = Image.fromarray(texture(0, 256, 128)) if expected else closed(texture, 0)
    picture.save(tmp_path / "x.jpg", xmp=xmp.encode())
    assert is_panorama(tmp_path / "x.jpg") is expected
