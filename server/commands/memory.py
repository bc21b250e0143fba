"""Asks the allocator to keep little for itself. Knows nothing of what it is used for."""

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's mallopt
LARGE = 4 << 20  # bytes; 1024 x 1024 pixels of three bytes lie below it
IN_HAND = 12 << 20  # bytes; what such a picture takes while it is scaled and written
ARENAS = 1


def keep_little() -> None:
    """Have large blocks go back to the system as soon as they are free, and all threads share one
    heap, whose end goes back when IN_HAND of it are free.

    glibc would raise the first mark to 32 MB when it first sees a large block go, and then keep
    what lies beneath: a hundred megabytes for every thread that ever scaled a large picture. And
    each new thread would have a heap of its own, whose gaps nobody else fills: 10 MB after a while.
    But to ask the system for every block anew adds a third to the time that it takes to scale and
    write a usual picture: each page comes by a fault. Gaps beneath something that stays are not
    given back: after a load of many such pictures at once some ten megabytes are. Other allocators
    are left as they are.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGE)
        libc.mallopt(M_TRIM_THRESHOLD, IN_HAND)
        libc.mallopt(M_ARENA_MAX, ARENAS)
