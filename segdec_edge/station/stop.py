"""A wish to stop, from Ctrl-C, SIGTERM, SIGHUP or another thread. Knows nothing of what is stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# SIGHUP: the terminal or the connection that started the station is gone.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """A plain flag. Not a threading.Event: set() from a signal handler can meet its own lock and never return.

    number: the signal that set it, 0 where none did.
    """

    def __init__(self) -> None:
        self.requested, self.number = False, 0

    def request(self) -> None:
        self.requested = True

    @contextmanager
    def on_signals(self) -> Iterator[Stop]:
        """While inside, these signals, once or often, set the flag and nothing else. Only in the main thread.

        SIGHUP stays ignored where it is: who starts a station by nohup wants it to outlive the terminal.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        own = [one for one in _SIGNALS if one != signal.SIGHUP or signal.getsignal(one) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._handle) for number in own}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested, self.number = True, number
