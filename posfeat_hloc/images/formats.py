"""What image files hold, whatever they are called: known by their first bytes, opened by Pillow or a plugin of it."""

from __future__ import annotations

import importlib
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import Image

from posfeat_hloc.errors import ImageError

EXTENSIONS = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".ppm", ".pgm", ".pnm", ".pbm", ".pfm",
        ".bmp", ".dib", ".tif", ".tiff", ".webp", ".avif", ".avifs", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".j2c",
        ".jpc", ".jpf", ".jpx", ".tga", ".qoi",
    }
)  # fmt: skip
"""File names with other endings are not looked at."""

RAW = frozenset(
    {
        ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw",
        ".rwl", ".3fr", ".iiq", ".x3f", ".raw", ".gpr",
    }
)  # fmt: skip
"""Endings of raw photographs; what Pillow finds in them is a preview."""

VIDEO = frozenset(
    {".mp4", ".mov", ".avi", ".mkv", ".m4v", ".webm", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".360", ".insv"}
)
"""Endings of videos."""

MOST_PIXELS = 1 << 30
"""Of an image: 1074 megapixels, 3 GiB while it is decoded."""

_OPENING = threading.Lock()

HEIF_HINT = 'pip install "posfeat-hloc[heic]"'
"""Reads HEIC."""

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF8", "GIF"), (b"BM", "BMP"),
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"), (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  ", "JPEG2000"), (b"\xff\x4f\xff\x51", "JPEG2000"), (b"qoif", "QOI"),
    (b"FUJIFILMCCD-RAW", "RAW"), (b"IIU\0", "RAW"), (b"IIRO", "RAW"), (b"IIRS", "RAW"),
)  # fmt: skip
_PILLOW = {"JPEG": ("JPEG", "MPO"), "PNG": ("PNG",), "GIF": ("GIF",), "BMP": ("BMP",), "TIFF": ("TIFF",)} | {
    kind: (kind,) for kind in ("PPM", "WEBP", "AVIF", "JPEG2000", "QOI", "TGA")
}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_READ_BY_COLMAP = frozenset({"JPEG", "PNG", "BMP", "TIFF", "PPM", "TGA"})
_NEW_SUBFILE_TYPE, _DNG_VERSION = 254, 50706


def kind_of(path: Path) -> str:
    """What a file holds, by its first bytes: ``JPEG``, ``PNG``, ``HEIC``, ``RAW``, ...; empty for anything else.

    Raises OSError where the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(64)
    return kind_of_bytes(head) or ("TGA" if path.suffix.lower() == ".tga" else "")  # which has no mark of its own


def kind_of_bytes(head: bytes) -> str:
    """:func:`kind_of` of the first 64 bytes of a file."""
    for mark, kind in _MAGIC:
        if head.startswith(mark):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456Ff" and head[2:3] in b" \t\r\n#":
        return "PPM"
    if head[4:8] == b"ftyp":
        size = min(max(struct.unpack(">I", head[:4])[0], 16), len(head))
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, size, 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        return "HEIC" if brands & _HEIC_BRANDS else "RAW" if b"crx " in brands else ""
    return ""


def colmap_reads(path: Path) -> bool:
    """Whether COLMAP can decode an image file; it looks at the first bytes, too."""
    try:
        return kind_of(path) in _READ_BY_COLMAP
    except OSError:
        return False


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file by its content, whatever its extension; pixels are decoded on demand.

    Raises:
        ImageError: not a photograph, a raw one, one of more than 2^30 pixels, or HEIC without the plugin that reads it.
        OSError: no such file, or no permission to read it.
    """
    with path.open("rb") as opened:  # Pillow maps files that it opens itself, and then mixes up sides of turned TIFF
        kind = kind_of_bytes(opened.read(64)) or ("TGA" if path.suffix.lower() == ".tga" else "")
        opened.seek(0)
        formats = ("HEIF",) if kind == "HEIC" else _PILLOW.get(kind)
        if kind == "HEIC" and not can_read_heic():
            raise ImageError(f"{path}: a HEIC image, which needs a plugin to read ({HEIF_HINT}), or convert it")
        if kind == "RAW":
            raise ImageError(f"{path}: a raw photograph; develop it to JPEG or TIFF first")
        if formats is None or not _available(formats[0]):
            raise ImageError(f"{path}: not an image that can be decoded")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF and of large images; both are handled
            with _open_of_any_size(opened, formats) as file:
                if file.width * file.height > MOST_PIXELS:
                    raise ImageError(f"{path}: too many pixels ({file.width}x{file.height}); make it smaller first")
                if kind == "TIFF" and _is_preview(file):
                    raise ImageError(f"{path}: a raw photograph (DNG); develop it to JPEG or TIFF first")
                yield file


def _open_of_any_size(file: IO[bytes], formats: tuple[str, ...]) -> Image.Image:
    """What ``Image.open`` does, without Pillow's limit of 179 megapixels, which stays as it is for everybody else."""
    with _OPENING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def can_read_heic() -> bool:
    """Whether the plugin for HEIC is installed; it is made known to Pillow."""
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True


def _available(name: str) -> bool:
    """Whether this Pillow was built with a format."""
    if name not in Image.OPEN:
        Image.init()
    return name in Image.OPEN


def _is_preview(file: Image.Image) -> bool:
    """Whether the first image of a TIFF file stands for a raw one."""
    tags = getattr(file, "tag_v2", {})
    reduced = tags.get(_NEW_SUBFILE_TYPE, 0)
    return _DNG_VERSION in tags or (isinstance(reduced, int) and bool(reduced & 1) and 330 in tags)
