"""Files are read as what they hold, whatever their ending; what cannot be read is said with what helps."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin
from PIL import features as pillow_features

from posfeat_hloc.errors import ImageError
from posfeat_hloc.images import formats
from posfeat_hloc.images.decoding import list_images, read_image
from posfeat_hloc.images.formats import colmap_reads, kind_of, kind_of_bytes, open_image

PICTURE = np.linspace(0, 255, 64 * 96 * 3).reshape(64, 96, 3).astype(np.uint8)
KINDS = {  # kind -> Pillow's format, endings, whether COLMAP reads it
    "JPEG": ("JPEG", ["jpg", "jpe", "jfif", "jif"], True),
    "PNG": ("PNG", ["png", "apng"], True),
    "BMP": ("BMP", ["bmp", "dib"], True),
    "TIFF": ("TIFF", ["tif"], True),
    "PPM": ("PPM", ["ppm", "pnm"], True),
    "WEBP": ("WEBP", ["webp"], False),
    "AVIF": ("AVIF", ["avif"], False),
    "JPEG2000": ("JPEG2000", ["jp2", "jpx"], False),
    "TGA": ("TGA", ["tga"], True),
}


def written(path: Path, format_: str) -> Path:
    Image.fromarray(PICTURE).save(path, format_)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_known_listed_and_read(tmp_path: Path, kind: str) -> None:
    format_, endings, by_colmap = KINDS[kind]
    if kind == "AVIF" and not pillow_features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    for ending in endings:
        path = written(tmp_path / f"x.{ending}", format_)
        assert kind_of(path) == kind
        assert colmap_reads(path) is by_colmap
        assert np.abs(read_image(path).pixels.astype(int) - PICTURE).mean() < 4
    assert list_images(tmp_path) == sorted(f"x.{ending}" for ending in endings)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("TGA", "AVIF")])
@pytest.mark.parametrize("ending", ["jpg", "heic", "png"])
def test_an_ending_that_lies_changes_nothing(tmp_path: Path, kind: str, ending: str) -> None:
    path = written(tmp_path / f"x.{ending}", KINDS[kind][0])
    assert np.abs(read_image(path).pixels.astype(int) - PICTURE).mean() < 4


def heic_head(brand: bytes, *others: bytes) -> bytes:
    size = 16 + 4 * len(others)
    return size.to_bytes(4, "big") + b"ftyp" + brand + bytes(4) + b"".join(others) + bytes(64)


def test_containers_are_told_by_their_brands() -> None:
    assert kind_of_bytes(heic_head(b"heic", b"mif1")) == "HEIC"
    assert kind_of_bytes(heic_head(b"mif1", b"heix")) == "HEIC"
    assert kind_of_bytes(heic_head(b"mif1", b"avif")) == "AVIF"
    assert kind_of_bytes(heic_head(b"crx ")) == "RAW"
    assert kind_of_bytes(heic_head(b"isom", b"mp42")) == ""  # a video


def test_heic_without_its_plugin_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "can_read_heic", lambda: False)
    for ending in ("HEIC", "jpg"):
        path = tmp_path / f"x.{ending}"
        path.write_bytes(heic_head(b"heic"))
        with pytest.raises(ImageError, match=r'x.*HEIC.*pip install "posfeat-hloc\[heic\]"'):
            read_image(path)
    assert list_images(tmp_path) == ["x.HEIC", "x.jpg"]  # so that they are counted


def test_heic_with_its_plugin(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    Image.fromarray(PICTURE).save(tmp_path / "x.heic", "HEIF", quality=95)
    (tmp_path / "y.jpg").write_bytes((tmp_path / "x.heic").read_bytes())
    for name in ("x.heic", "y.jpg"):
        assert np.abs(read_image(tmp_path / name).pixels.astype(int) - PICTURE).mean() < 6
        assert not colmap_reads(tmp_path / name)


def test_raw_photographs_are_not_taken_for_their_preview(tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[50706] = b"\1\4\0\0"  # DNGVersion
    tags.tagtype[50706] = 1
    Image.fromarray(PICTURE).save(tmp_path / "x.tif", tiffinfo=tags)
    (tmp_path / "y.jpg").write_bytes(b"FUJIFILMCCD-RAW 0201" + bytes(100))
    for name in ("x.tif", "y.jpg"):
        with pytest.raises(ImageError, match=f"{name}: a raw photograph.*develop"):
            read_image(tmp_path / name)


def test_exif_of_a_file_that_colmap_cannot_read(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0110] = "Model X"
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).save(buffer, "WEBP", exif=exif)
    (tmp_path / "x.jpg").write_bytes(buffer.getvalue())
    with open_image(tmp_path / "x.jpg") as file:
        assert (file.format, file.size) == ("WEBP", (96, 64))
        assert file.getexif()[0x0110] == "Model X"
