"""Asks the allocator to give memory back. Knows nothing of what it is used for."""

import contextlib
import ctypes

M_MMAP_THRESHOLD = -3  # of glibc's mallopt
LARGE = 1 << 20  # bytes


def return_large_blocks() -> None:
    """Have blocks of a megabyte and more go back to the system as soon as they are free.

    glibc would raise that mark to 32 MB when it first sees a large block go, and then keep what
    lies beneath: a hundred megabytes for every thread that ever scaled a large picture. Other
    allocators are left as they are.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)
