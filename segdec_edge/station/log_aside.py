"""The log, off the line's path: a frozen terminal (Ctrl-S) or a pipe that nobody reads must hold up no verdict.

Every part of the station logs, also the watch that keeps the deadlines; a handler writes in the thread that logs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler
from queue import Full, Queue
from threading import Timer

from segdec_edge.station.supervisor import start_thread

_log = logging.getLogger(__name__)
CAPACITY = 10_000
"""Lines that may wait; with their text some MB."""
CLOSE_S = 2.0
LEAVE_S = 1.0
"""For a last line on the frozen terminal, should it wake up."""

Lines = Queue["logging.LogRecord | None"]


class _Aside(QueueHandler):
    """Never blocks: lost counts the lines for which there was no room."""

    def __init__(self, waiting: Lines) -> None:
        super().__init__(waiting)
        self.lost = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except Full:
            self.lost += 1


@contextmanager
def log_aside(capacity: int = CAPACITY, close_s: float = CLOSE_S, leave_s: float | None = None) -> Iterator[None]:
    """Inside, what goes to the root logger's handlers is written by a thread of its own; what finds no room is counted
    and told. At the end what waits is written, for no longer than close_s.

    leave_s: for the command that ends with it. Where the terminal is frozen still, the process is gone as long
    afterwards, with exit 1 where an error came through here: else its last line and Python's own end would wait.
    """
    root = logging.getLogger()
    handlers, waiting = root.handlers[:], Lines(capacity)
    aside = _Aside(waiting)
    thread = start_thread("log", lambda: _write(waiting, aside, handlers))
    root.handlers[:] = [aside]
    failed = True
    try:
        yield
        failed = False
    finally:
        root.handlers[:] = handlers
        with suppress(Full):
            waiting.put(None, timeout=close_s)
        thread.join(close_s)
        if leave_s is not None and thread.is_alive():
            _leave(leave_s, int(failed))


def _leave(within_s: float, code: int) -> None:
    timer = Timer(within_s, os._exit, (code,))
    timer.daemon = True  # an end that comes sooner is as good
    timer.start()


def _write(waiting: Lines, aside: _Aside, handlers: Sequence[logging.Handler]) -> None:
    told = 0
    while (record := waiting.get()) is not None:
        _handle(record, handlers)
        if aside.lost > told:
            lost, told = aside.lost - told, aside.lost
            text = f"{lost} lines of the log were lost: nobody read it for a while. The ledger has every part."
            _handle(logging.LogRecord(_log.name, logging.WARNING, "", 0, text, None, None), handlers)


def _handle(record: logging.LogRecord, handlers: Sequence[logging.Handler]) -> None:
    for handler in handlers:
        if record.levelno >= handler.level:
            handler.handle(record)
