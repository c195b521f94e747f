"""The ledger on a small disk: its room is for rows, not for the log."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from segdec_edge.errors import LedgerFull
from segdec_edge.outputs.ledger import Ledger, read_rows
from segdec_edge.outputs.ledger_check import check_ledger
from segdec_edge.outputs.ledger_room import LOW_BYTES
from segdec_edge.types import Verdict

Make = Callable[..., Verdict]


def write_until_full(ledger: Ledger, make_verdict: Make, batch: int = 1) -> int:
    """How many rows were acknowledged, written in batches."""
    for first in range(0, 100_000, batch):
        try:
            ledger.write_all([make_verdict(number) for number in range(first, first + batch)])
        except LedgerFull:
            return first
    raise AssertionError("the disk never filled up")


@pytest.mark.parametrize("batch", [1, 256])
def test_most_of_a_small_disk_is_rows(small_disk: Path, run_id: str, make_verdict: Make, batch: int) -> None:
    path = small_disk / "ledger.sqlite"
    with closing(Ledger(path, run_id)) as ledger:
        written = write_until_full(ledger, make_verdict, batch)
        assert written > 1500  # one at a time it was 76, before the log was kept short
        assert [row.sequence for row in read_rows(path)] == list(range(written))
    found = check_ledger(path)
    assert found.is_whole
    assert found.parts == written


def test_a_small_disk_is_told_once_with_the_parts_that_it_holds(
    small_disk: Path, run_id: str, make_verdict: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), closing(Ledger(small_disk / "ledger.sqlite", run_id)) as ledger:
        assert "1.0 MB left on its disk, wanted 8.2: room for some 20" in caplog.text
        write_until_full(ledger, make_verdict, 16)
    assert len(caplog.records) == 1


def test_a_large_disk_is_told_nothing_and_keeps_its_log(
    tmp_path: Path, run_id: str, make_verdict: Make, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ledger.sqlite"
    with caplog.at_level(logging.WARNING), closing(Ledger(path, run_id)) as ledger:
        for number in range(5):
            ledger.write(make_verdict(number))
        assert path.with_name("ledger.sqlite-wal").stat().st_size > 4096
    assert not caplog.records


def test_a_disk_that_others_fill_gets_the_log_folded_in_in_time(
    small_disk: Path, run_id: str, make_verdict: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, log = small_disk / "ledger.sqlite", small_disk / "ledger.sqlite-wal"
    monkeypatch.setattr("segdec_edge.outputs.ledger_room.LOW_BYTES", LOW_BYTES // 16)
    with closing(Ledger(path, run_id)) as ledger:
        for number in range(20):
            ledger.write(make_verdict(number))
        assert log.stat().st_size > 100_000
        (small_disk / "pictures").write_bytes(bytes(520_000))
        ledger.write(make_verdict(20))
        assert log.stat().st_size == 0
    assert [row.sequence for row in read_rows(path)] == list(range(21))


def test_a_reader_that_stays_holds_up_no_row(small_disk: Path, run_id: str, make_verdict: Make) -> None:
    path = small_disk / "ledger.sqlite"
    with closing(Ledger(path, run_id)) as ledger:
        ledger.write(make_verdict(0))
        with closing(sqlite3.connect(path)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM parts").fetchone()
            asked: list[str] = []
            ledger._database.set_trace_callback(asked.append)
            for number in range(1, 10):
                ledger.write(make_verdict(number))
            pragmas = [text for text in asked if "busy_timeout" in text or "wal_checkpoint" in text]
            assert pragmas[:2] == ["PRAGMA busy_timeout = 0", "PRAGMA wal_checkpoint(TRUNCATE)"]
            assert len(pragmas) == 9 * 3
            assert ledger._database.execute("PRAGMA busy_timeout").fetchone() == (5000,)
        ledger.write(make_verdict(10))
        assert (small_disk / "ledger.sqlite-wal").stat().st_size == 0
    assert [row.sequence for row in read_rows(path)] == list(range(11))
