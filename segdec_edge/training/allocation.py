"""What malloc does with freed memory while a training runs. Knows no tensor."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep memory it has freed for the next allocation; whether its C library can.

    glibc gives large blocks back to the kernel at once, which clears each page anew when it is asked for again: some
    30 000 page faults a step at 704×256, 0.06 to 0.08 s of 1.4 s of processor time. None are left, at the same peak
    memory; huge pages instead leave 0.02 to 0.04 s. For processes that train: each step allocates the same again.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT))
