"""Memory that is freed goes back to the system."""

from __future__ import annotations

import ctypes
import os
import platform

_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE = 1 << 20


def return_large_blocks() -> None:
    """Let glibc map blocks of a megabyte and more by themselves, so that freeing returns them.

    By default glibc raises this limit to 32 MB once such blocks are freed and takes them from the heap; versions before
    2.38 then hardly reuse freed aligned blocks (glibc bug 14581), which is what torch allocates. With small
    allocations in between, as HDF5 makes them, the heap of a matching run grew by 4 MB a pair. Does nothing elsewhere.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)


def use_huge_pages() -> None:
    """Let torch ask Linux for pages of 2 MB for large tensors; works only before torch makes its first tensor.

    A network's maps are new memory each time, and up to half of the time of a light network goes into making it page by
    page. Where the system offers no such pages nothing changes; ``THP_MEM_ALLOC_ENABLE=0`` in the environment forbids.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
