"""A thread's alternate stack for signals, kept while a library is loaded that would give it another one."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Inside, this thread may get another alternate stack; outside it has its own, or none, as before.

    OpenVINO's CPU plugin sets one in the thread that loads it and unmaps it in the thread that releases it last
    (github.com/openvinotoolkit/openvino/pull/11894). Where these are two, the first one's next signal, as Ctrl-C, would
    end the process by a segmentation fault. The kernel refuses a stack that is too small for what is in use (AMX).
    """
    if sys.platform != "linux":
        yield
        return
    libc, before = ctypes.CDLL(None), _Stack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)
