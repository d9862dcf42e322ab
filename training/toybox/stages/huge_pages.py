"""Memory for a training's tensors that the process keeps, in pages of 2 MB instead of 4 KB.

A step allocates and frees gigabytes. By default glibc returns every large tensor to the kernel, which then clears the
same pages again, half a million times a minute; and the processor spends a tenth of its time looking up small pages.
"""

import ctypes
import platform
from typing import Any

RESERVED = 4 << 30
"""Bytes of address space; what is never used takes no memory. A step of the denoiser needs 3 GB at most."""
_PAGE = 2 << 20
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of malloc.h
_HUGE_PAGE = 14  # MADV_HUGEPAGE of sys/mman.h


def keep_memory(reserved: int = RESERVED) -> bool:
    """From now on this process keeps what it frees, and has huge pages for so much; whether the system can do that.

    Elsewhere than on Linux with glibc nothing changes, nor where the kernel's setting of transparent huge pages is
    "never".
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc: Any = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)
    start = libc.malloc(reserved)
    if start is None:
        return False
    first, last = -(-start // _PAGE) * _PAGE, (start + reserved) // _PAGE * _PAGE
    advised = libc.madvise(first, last - first, _HUGE_PAGE) == 0
    libc.free(start)
    return advised
