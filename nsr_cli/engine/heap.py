"""The heap, which holds the tensors on a CPU."""

import contextlib
import ctypes
import sys
from collections.abc import Iterator

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # of mallopt, in glibc's malloc.h
MIB = 2**20


@contextlib.contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep freed memory for the next tensors, as torch's allocator for GPUs does.

    By default glibc returns large blocks to the system at once, which then clears every page of new ones: a tenth to a
    fifth of a training step. Without glibc (macOS, Windows, musl) this does nothing.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not all(hasattr(libc, name) for name in ("mallopt", "malloc_trim")):
        yield
        return
    libc.mallopt(MMAP_MAX, 0)
    libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:  # the values to which glibc itself adapts, in a process with large blocks
        libc.mallopt(MMAP_MAX, 65536)
        libc.mallopt(MMAP_THRESHOLD, 32 * MIB)
        libc.mallopt(TRIM_THRESHOLD, 64 * MIB)
        libc.malloc_trim(0)
