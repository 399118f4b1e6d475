"""Keeps freed memory in the process, where the C library is glibc.

By default glibc returns every large block to the system when it is freed, and requests it again,
page by page, for the next tensor of that size.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # parameters of mallopt(3)
_MOST = 2**31 - 1
_STEP = 2**26


def keep_memory() -> None:
    """Lets glibc keep what is freed, for the rest of the process.

    Call it before the libraries that allocate much are imported. It does nothing where another C
    library or allocator is in use, or where the environment tunes glibc (`MALLOC_…_`).
    """
    tuned = any(name.startswith("MALLOC_") and name.endswith("_") for name in os.environ)
    if tuned or sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  # only glibc has it
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, _MOST)
        library.mallopt(_TOP_PAD, _STEP)
        # One heap for all threads: autograd's own thread would keep a second copy of everything.
        library.mallopt(_ARENA_MAX, 1)
