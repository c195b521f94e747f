"""The ledger: durable, once, and clear about what is wrong."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

import segdec_edge
from segdec_edge.errors import LedgerFull, OutputError
from segdec_edge.outputs import ledger_file
from segdec_edge.outputs.ledger import Ledger, counts, read_events, read_rows, regions_json
from segdec_edge.types import Label, Region, Verdict

Make = Callable[..., Verdict]
CHILD = Path(__file__).with_name("ledger_child.py")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_row_comes_back_as_it_was_written(path: Path, run_id: str, make_verdict: Make) -> None:
    verdict = make_verdict(3)
    with closing(Ledger(path, run_id)) as ledger:
        ledger.write(verdict)
        (row,) = read_rows(path)  # while the station runs
    assert [row] == list(read_rows(path))  # and after it
    assert row.run_id == run_id
    assert row.verdict == "DEFECT"
    for name in ("part_id", "sequence", "score", "threshold", "reason", "captured_ns", "decided_ns", "latency_ms"):
        assert getattr(row, name) == getattr(verdict, name)


def test_rows_and_counts_of_one_run_and_of_all(path: Path, make_verdict: Make) -> None:
    for run, labels in (("run-1", [Label.OK, Label.DEFECT]), ("run-2", [Label.OK])):
        with closing(Ledger(path, run)) as ledger:
            ledger.write_all([make_verdict(n, label, part_id=f"{run}-{n}") for n, label in enumerate(labels)])
    assert [row.part_id for row in read_rows(path)] == ["run-1-0", "run-1-1", "run-2-0"]
    assert [row.part_id for row in read_rows(path, "run-2")] == ["run-2-0"]
    assert counts(path) == {Label.OK: 2, Label.DEFECT: 1, Label.UNKNOWN: 0}
    assert counts(path, "run-2") == {Label.OK: 1, Label.DEFECT: 0, Label.UNKNOWN: 0}


def test_durability_is_what_it_says(path: Path, run_id: str, make_verdict: Make) -> None:
    with closing(Ledger(path, run_id)) as ledger:
        ledger.write(make_verdict())
        assert ledger._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert ledger._database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert not path.with_name("ledger.sqlite-wal").exists()


def test_same_verdict_twice_is_one_row(path: Path, run_id: str, make_verdict: Make) -> None:
    with closing(Ledger(path, run_id)) as ledger:
        ledger.write(make_verdict())
        ledger.write_all([make_verdict(), make_verdict(), make_verdict(1)])
    assert len(list(read_rows(path))) == 2


@pytest.mark.parametrize(
    "change", [{"label": Label.OK}, {"score": 0.3}, {"score": None}, {"captured_ns": 1}, {"source": "other.png"}]
)
def test_other_content_for_a_part_is_refused_and_changes_nothing(
    path: Path, run_id: str, make_verdict: Make, change: dict[str, object]
) -> None:
    with closing(Ledger(path, run_id)) as ledger:
        ledger.write(make_verdict())
        with pytest.raises(OutputError, match="decided once"):
            ledger.write_all([make_verdict(1), make_verdict(**change)])
        assert len(list(read_rows(path))) == 1
        ledger.write(make_verdict(1))
    assert [row.sequence for row in read_rows(path)] == [0, 1]


def test_wrong_types_do_not_get_in(path: Path, run_id: str, make_verdict: Make) -> None:
    with closing(Ledger(path, run_id)) as ledger:
        with pytest.raises(OutputError):
            ledger.write(make_verdict(latency_ms=1.0, captured_ns="noon"))
        with pytest.raises(OutputError):
            ledger.write(make_verdict(reason=None))
    assert list(read_rows(path)) == []


def test_name_that_is_no_utf_8_loses_no_row(path: Path, run_id: str, make_verdict: Make) -> None:
    name = os.fsdecode(b"pictures/gr\xfcn.png")
    with closing(Ledger(path, run_id)) as ledger:
        ledger.write(make_verdict(source=name, reason=f"{name} cannot be read", given_id="Gerät 7"))
    (row,) = read_rows(path)
    assert row.source == "pictures/gr\\udcfcn.png"
    assert row.given_id == "Gerät 7"


def test_everything_a_verdict_says_comes_back(path: Path, run_id: str, make_verdict: Make) -> None:
    region = Region((1, 2, 30, 40), ((1, 2), (31, 2), (31, 42)), 600.04, 0.98765)
    verdict = make_verdict(
        camera="left", recipe="lids", given_id="7-11", review=True, regions=(region,), device_ns=5, bundle_digest="cd"
    )
    with closing(Ledger(path, run_id)) as ledger:
        ledger.write_all([verdict, verdict])
    (row,) = read_rows(path)
    assert (row.camera, row.recipe, row.given_id, row.review, row.device_ns) == ("left", "lids", "7-11", 1, 5)
    assert row.bundle_digest == "cd"
    assert json.loads(row.regions or "") == [
        {"box": [1, 2, 30, 40], "area_px": 600.0, "peak": 0.9877, "polygon": [[1, 2], [31, 2], [31, 42]]}
    ]


def test_regions_stay_within_their_limit() -> None:
    outline = tuple((n, n) for n in range(300))
    many = [Region((n, n, 10, 10), outline, float(n), 0.5) for n in range(1000)]
    for count in (1, 2, 5, 100, 1000):
        text = regions_json(many[:count], limit=1500) or ""
        assert len(text) <= 1500
        boxes = json.loads(text)
        assert boxes[0]["area_px"] == count - 1  # the largest stay
        assert ("polygon" in boxes[0]) == (len(boxes) == count and "polygon" in text)
    assert regions_json(many[:3], limit=1) == "[]"
    assert regions_json([]) is None


def test_events_keep_their_place_among_the_parts(path: Path, run_id: str, make_verdict: Make) -> None:
    with closing(Ledger(path, run_id)) as ledger:
        ledger.event("start", "recipe lids")
        ledger.write_all([make_verdict(0), make_verdict(1)])
        ledger.event("alarm", "x" * 10_000, camera="left")
    with closing(Ledger(path, "later")) as ledger:
        ledger.event("start", "again")
    first, second, third = read_events(path)
    assert (first.kind, first.after_part, first.text, first.camera) == ("start", 0, "recipe lids", "")
    assert (second.kind, second.after_part, len(second.text), second.camera) == ("alarm", 2, 2000, "left")
    assert [event.run_id for event in (first, second, third)] == [run_id, run_id, "later"]
    assert list(read_events(path, "later")) == [third]


def test_rows_and_events_from_many_threads(path: Path, run_id: str, make_verdict: Make) -> None:
    def work(thread: int) -> None:
        for n in range(20):
            ledger.write(make_verdict(n, part_id=f"{run_id}-c{thread}-{n:06d}", camera=f"c{thread}"))
            ledger.event("note", str(n), f"c{thread}")

    with closing(Ledger(path, run_id)) as ledger, ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(list(read_rows(path))) == len(list(read_events(path))) == 80


def test_reading_does_not_hold_up_the_writer_or_its_log(path: Path, run_id: str, make_verdict: Make) -> None:
    with closing(Ledger(path, run_id)) as ledger:
        ledger.write_all([make_verdict(n) for n in range(5000)])
        rows = read_rows(path)
        next(rows)  # a slow reader, in the middle
        for start in range(5000, 8000, 100):
            ledger.write_all([make_verdict(n) for n in range(start, start + 100)])
        busy, log_pages, copied = ledger._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        assert (busy, log_pages - copied) == (0, 0)
        assert 1 + len(list(rows)) == 8000


def test_second_station_on_the_same_ledger_is_refused_at_once(path: Path, run_id: str, make_verdict: Make) -> None:
    with closing(Ledger(path, run_id)) as first:
        with pytest.raises(OutputError, match=rf"another station .*process {os.getpid()}\)"):
            Ledger(path, "other")
        first.write(make_verdict())
    with closing(Ledger(path, "other")) as second:
        second.write(make_verdict(1))


def test_locked_by_another_program(
    path: Path, run_id: str, make_verdict: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_file, "BUSY_S", 0.1)
    with closing(Ledger(path, run_id)) as ledger, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OutputError, match="another program has locked"):
            ledger.write(make_verdict())
        other.execute("ROLLBACK")
        ledger.write(make_verdict())


def test_newer_ledger_is_refused(path: Path, run_id: str) -> None:
    Ledger(path, run_id).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(OutputError, match="version 99, this program knows 2"):
        Ledger(path, run_id)
    with pytest.raises(OutputError, match="version 99"):
        list(read_rows(path))


def test_database_of_another_program_stays_untouched(path: Path, run_id: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE songs (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(OutputError, match="of another program"):
        Ledger(path, run_id)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]  # no lock file, no journal


def test_a_ledger_that_is_being_made_is_no_database_of_another_program(path: Path, run_id: str) -> None:
    """A station makes the file first, and all that is in it in one step."""
    path.touch()
    with pytest.raises(OutputError, match="nothing was recorded yet"):
        counts(path)
    Ledger(path, run_id).close()
    assert sum(counts(path).values()) == 0


def test_file_that_is_no_database(path: Path, run_id: str) -> None:
    path.write_text("part,verdict\n" * 100)
    with pytest.raises(OutputError, match="not a SQLite file"):
        Ledger(path, run_id)
    with pytest.raises(OutputError, match="not a SQLite file"):
        counts(path)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_folder_in_the_ledgers_place_and_file_in_its_folders(path: Path, run_id: str, tmp_path: Path) -> None:
    path.mkdir()
    with pytest.raises(OutputError, match="cannot be written or read"):
        Ledger(path, run_id)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        Ledger(tmp_path / "file" / "ledger.sqlite", run_id)


def test_no_ledger_to_read(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no such ledger"):
        list(read_rows(tmp_path / "ledger.sqlite"))
    assert not (tmp_path / "ledger.sqlite").exists()


def test_names_that_mean_something_in_an_address(tmp_path: Path, run_id: str, make_verdict: Make) -> None:
    path = tmp_path / "line 3? 100% #1" / "ledger.sqlite"
    with closing(Ledger(path, run_id)) as ledger:
        ledger.write(make_verdict())
    assert len(list(read_rows(path))) == 1


def _write_until_refused(ledger: Ledger, make_verdict: Make) -> tuple[int, OutputError]:
    for sequence in range(100_000):
        try:
            ledger.write(make_verdict(sequence))
        except OutputError as error:
            return sequence, error
    raise AssertionError("the ledger never filled up")


def test_full_database_keeps_what_it_acknowledged(path: Path, run_id: str, make_verdict: Make) -> None:
    with closing(Ledger(path, run_id)) as ledger:
        ledger._database.execute("PRAGMA max_page_count = 30")
        written, error = _write_until_refused(ledger, make_verdict)
        assert "the disk is full" in str(error)
        ledger._database.execute("PRAGMA max_page_count = 100000")
        ledger.write(make_verdict(written))
    assert [row.sequence for row in read_rows(path)] == list(range(written + 1))


def test_full_disk_keeps_what_was_acknowledged(small_disk: Path, run_id: str, make_verdict: Make) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(800_000))
    path = small_disk / "ledger.sqlite"
    with closing(Ledger(path, run_id)) as ledger:
        written, error = _write_until_refused(ledger, make_verdict)
        assert "the disk is full" in str(error)
        assert written > 0
        assert [row.sequence for row in read_rows(path)] == list(range(written))
        filler.unlink()
        ledger.write(make_verdict(written))
    assert [row.sequence for row in read_rows(path)] == list(range(written + 1))


def test_disk_that_is_full_from_the_start(small_disk: Path, run_id: str) -> None:
    with (small_disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError):
        while True:
            filler.write(bytes(4096))
    with pytest.raises(LedgerFull, match="the disk is full"):
        Ledger(small_disk / "ledger.sqlite", run_id)


def test_kill_loses_nothing_acknowledged_and_doubles_nothing(path: Path) -> None:
    acknowledged: list[str] = []
    for attempt in range(3):
        acknowledged += _killed_after(path, f"run-{attempt}", rows=10 + 27 * attempt)
    stored = [row.part_id for row in read_rows(path)]
    assert len(stored) == len(set(stored))
    assert set(acknowledged) <= set(stored)
    assert len(stored) <= len(acknowledged) + 3  # at most the one row a kill met between commit and print
    for attempt in range(3):
        rows = [row.sequence for row in read_rows(path, f"run-{attempt}")]
        assert rows == list(range(len(rows)))


def _killed_after(path: Path, run_id: str, rows: int) -> list[str]:
    """Part ids that a child acknowledged before and while it was killed."""
    root = str(Path(segdec_edge.__file__).parents[1])
    command = [sys.executable, str(CHILD), str(path), run_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(rows)]
        child.kill()
        lines += child.stdout.readlines()
    return [line.strip() for line in lines if line.endswith("\n")]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_ledger_removed_while_in_use_is_told(tmp_path: Path, make_verdict, replaced: bool) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path, "run")
    ledger.write(make_verdict(0))
    path.unlink()
    if replaced:
        path.write_bytes(b"")
    with pytest.raises(OutputError, match="removed or replaced while in use"):
        ledger.write(make_verdict(1))
    ledger.close()
