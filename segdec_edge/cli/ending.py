"""How a command ends by SIGTERM or SIGHUP: as by Ctrl-C, with what it had begun to write removed. Knows no command."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def ending_in_order() -> Iterator[None]:
    """While inside, SIGTERM and SIGHUP interrupt as Ctrl-C does; the process then dies of the signal, as without this.

    Dies, not exits: that is what systemd takes for a clean stop. A signal that is ignored, as nohup has it, or handled
    otherwise stays so. Only in the main thread.
    """
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not came:  # a second one would interrupt the tidying up
            came.append(number)
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    own = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is signal.SIG_DFL]
    for number in own:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in own:
            signal.signal(number, signal.SIG_DFL)
        if came:
            _die_of(came[0])


def _die_of(number: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a pipe that nobody reads any more
            stream.flush()
    os.kill(os.getpid(), number)
