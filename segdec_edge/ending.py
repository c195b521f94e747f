"""How a process ends by a signal: as by Ctrl-C, with what it had begun to write removed. Knows no command."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

PATIENCE_S = 10.0
"""So long a process may tidy up undisturbed; a signal after it ends the process at once."""

_OURS = {
    signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler,
}  # fmt: skip


@contextmanager
def ending_in_order() -> Iterator[None]:
    """While inside, the first of SIGTERM, SIGHUP and Ctrl-C raises KeyboardInterrupt, and no later one interrupts it.

    By SIGTERM and SIGHUP the process then dies of the signal, as without this: that is what systemd takes for a clean
    stop. A signal that is ignored, as nohup has it, or handled otherwise stays so. Only in the main thread.
    """
    came: list[tuple[int, float]] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not came:
            came.append((number, time.monotonic()))
            raise KeyboardInterrupt
        if time.monotonic() - came[0][1] > PATIENCE_S:  # it hangs, or its KeyboardInterrupt was lost in a callback
            _die_of(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: handler for number, handler in _OURS.items() if signal.getsignal(number) is handler}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came and came[0][0] != signal.SIGINT:
            _die_of(came[0][0])


def hand_on(number: int) -> NoReturn:
    """End by a signal that was taken for a while, as if it came now; where it is ignored now, as by Ctrl-C."""
    signal.raise_signal(number)
    raise KeyboardInterrupt


def _die_of(number: int) -> None:
    try:
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # closed from the start; nobody reads it any more
                stream.flush()
    finally:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
