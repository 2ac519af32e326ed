"""Amounts of memory, and memory that is freed."""

from __future__ import annotations

import ctypes
import os
import platform
import re

_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE = 1 << 20
_LARGEST = 32 << 20
"""Of the blocks that glibc can take from its heap."""
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def memory_size(text: str) -> int:
    """Bytes that an option such as ``500M``, ``2G`` or ``1.5G`` means (multiples of 1024)."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None or float(found[1]) == 0:
        raise ValueError(f"{text!r} is not an amount of memory like 500M or 2G")
    return int(float(found[1]) * (1 << _UNITS[found[2].upper()]))


def return_large_blocks() -> None:
    """Let glibc map blocks of a megabyte and more by themselves, so that freeing returns them.

    By default glibc raises this limit to 32 MB once such blocks are freed and takes them from the heap; versions before
    2.38 then hardly reuse freed aligned blocks (glibc bug 14581), which is what torch allocates. With small
    allocations in between, as HDF5 makes them, the heap of a matching run grew by 4 MB a pair. Does nothing elsewhere.
    """
    _map_blocks_from(_LARGE)


def keep_large_blocks() -> None:
    """Let glibc take blocks of up to 32 MB from its heap, where they are used again.

    A network makes and drops the same maps for each image. Mapping each by itself costs a third of the time of a light
    network, spent on making pages. The heap creeps up with images of different sizes: see :func:`return_unused`.
    """
    _map_blocks_from(_LARGEST)


def return_unused() -> None:
    """Return pages of the heap that hold nothing; glibc only."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _map_blocks_from(size: int) -> None:
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, size)


def use_huge_pages() -> None:
    """Let torch ask Linux for pages of 2 MB for large tensors; works only before torch makes its first tensor.

    A network's maps are new memory each time, and up to half of the time of a light network goes into making it page by
    page. Where the system offers no such pages nothing changes; ``THP_MEM_ALLOC_ENABLE=0`` in the environment forbids.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
