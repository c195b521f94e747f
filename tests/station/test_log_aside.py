"""A log that nobody reads holds up nothing; what is lost of it is told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from segdec_edge.station.log_aside import log_aside
from tests.station.scripted import wait_until


class Frozen(logging.Handler):
    """A terminal after Ctrl-S."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.thaw, self.lines = threading.Event(), threading.Event(), list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        self.began.set()
        self.thaw.wait(30.0)
        self.lines.append(self.format(record))


@pytest.fixture
def frozen() -> Iterator[Frozen]:
    root, handler = logging.getLogger(), Frozen()
    before = root.handlers[:]
    root.handlers[:] = [handler]
    yield handler
    handler.thaw.set()
    root.handlers[:] = before


def test_logging_returns_at_once_and_what_is_lost_is_told(frozen: Frozen) -> None:
    log = logging.getLogger("segdec_edge.test")
    with log_aside(capacity=3):
        log.warning("part %d", 0)
        wait_until(frozen.began.is_set)
        for number in range(1, 10):
            log.warning("part %d", number)
        frozen.thaw.set()
        wait_until(lambda: any("lost" in line for line in frozen.lines))
        log.error("after it", exc_info=ZeroDivisionError("bug"))
    parts = [line for line in frozen.lines if line.startswith("part")]
    (lost,) = [line for line in frozen.lines if "lost" in line]
    assert parts == ["part 0", "part 1", "part 2", "part 3"]
    assert lost.startswith("6 lines of the log were lost")
    assert frozen.lines[-1].startswith("after it\nZeroDivisionError: bug")
    assert frozen in logging.getLogger().handlers


def test_one_that_stays_frozen_does_not_keep_the_station_from_ending(frozen: Frozen) -> None:
    with log_aside(capacity=2, close_s=0.05):
        for number in range(9):
            logging.getLogger("segdec_edge.test").warning("part %d", number)
    assert frozen.lines == []
    assert frozen in logging.getLogger().handlers
