"""The ledger's file: older versions, full disks, damage."""

from __future__ import annotations

import importlib.util
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.errors import LedgerFull, OutputError
from segdec_edge.outputs import ledger_file
from segdec_edge.outputs.ledger import Ledger, counts, read_events, read_rows
from segdec_edge.outputs.ledger_check import check_ledger
from segdec_edge.outputs.ledger_export import export_ledger
from segdec_edge.outputs.ledger_stats import figures
from segdec_edge.types import Label, Verdict

Make = Callable[..., Verdict]

VERSION_1 = """
CREATE TABLE parts (
    part_id TEXT PRIMARY KEY NOT NULL,
    run_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('OK', 'DEFECT', 'UNKNOWN')),
    score REAL,
    threshold REAL NOT NULL,
    reason TEXT NOT NULL,
    captured_ns INTEGER NOT NULL,
    decided_ns INTEGER NOT NULL,
    latency_ms REAL NOT NULL,
    bundle_sha256 TEXT NOT NULL,
    source TEXT NOT NULL
);
CREATE INDEX parts_by_run ON parts (run_id, sequence);
PRAGMA application_id = 1396984903;
PRAGMA user_version = 1;
PRAGMA journal_mode = WAL;
"""
OLD_RUNS = ("20260301T000000Z-aaaaaa", "19700101T000007Z-bbbbbb")  # the second on a board that lost its clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def write_version_1(path: Path, parts: int) -> list[tuple[object, ...]]:
    """A ledger as segdec-edge 0.1 wrote it: its rows, in the order of writing."""
    rows = [
        (f"{run}-{n:06d}", run, n, "DEFECT", 0.1 + 0.2, 0.25, f"because {n}", n + 7, n + 8, 1.5, "ab" * 32, f"{n}.png")
        for run in OLD_RUNS
        for n in range(parts)
    ]
    with closing(sqlite3.connect(path)) as database:
        database.executescript(VERSION_1)
        with database:
            database.executemany(f"INSERT INTO parts VALUES ({', '.join('?' * 12)})", rows)
    return rows


def as_version_1(path: Path) -> list[tuple[object, ...]]:
    columns = (
        "part_id run_id sequence verdict score threshold reason captured_ns decided_ns latency_ms bundle_sha256 source"
    )
    return [tuple(getattr(row, name) for name in columns.split()) for row in read_rows(path)]


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def integrity_of(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        return str(database.execute("PRAGMA integrity_check").fetchone()[0])


def test_older_ledger_is_read_as_it_is(path: Path) -> None:
    written = write_version_1(path, 5)
    assert as_version_1(path) == written
    assert [row.number for row in read_rows(path)] == list(range(1, 11))
    assert {(row.camera, row.recipe, row.given_id, row.regions) for row in read_rows(path)} == {
        ("camera", "", None, None)
    }
    assert list(read_events(path)) == []
    assert counts(path)[Label.DEFECT] == 10
    assert version_of(path) == 1


def test_older_ledger_is_brought_up_to_date_and_goes_on(path: Path, run_id: str, make_verdict: Make) -> None:
    written = write_version_1(path, 5)
    with closing(Ledger(path, run_id)) as ledger:
        ledger.write(make_verdict(0))
    assert version_of(path) == 2
    assert as_version_1(path)[:-1] == written  # in the order of writing, whatever the clock said
    assert [row.number for row in read_rows(path)] == list(range(1, 12))
    assert [row.part_id for row in read_rows(path, OLD_RUNS[1])] == [f"{OLD_RUNS[1]}-{n:06d}" for n in range(5)]
    assert integrity_of(path) == "ok"
    with closing(Ledger(path, run_id)) as ledger:
        ledger.write(make_verdict(0))
    assert len(list(read_rows(path))) == 11


def test_new_and_migrated_file_have_the_same_tables(path: Path, tmp_path: Path, run_id: str) -> None:
    def tables(of: Path) -> set[str]:
        with closing(sqlite3.connect(of)) as database:
            return {str(sql).replace('"', "") for (sql,) in database.execute("SELECT sql FROM sqlite_master")}

    write_version_1(path, 1)
    for one in (path, tmp_path / "new.sqlite"):
        Ledger(one, run_id).close()
    assert tables(path) == tables(tmp_path / "new.sqlite")


def test_migration_without_room_leaves_the_old_ledger(small_disk: Path, run_id: str, make_verdict: Make) -> None:
    path = small_disk / "ledger.sqlite"
    written = write_version_1(path, 500)
    with (small_disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError):
        while True:
            filler.write(bytes(4096))
    filler.close()
    with (small_disk / "filler").open("rb+") as room:  # for a log, but not for a second table
        room.truncate((small_disk / "filler").stat().st_size - 100_000)
    with pytest.raises(LedgerFull, match="the disk is full"):
        Ledger(path, run_id)
    assert version_of(path) == 1
    assert as_version_1(path) == written
    (small_disk / "filler").unlink()
    with closing(Ledger(path, run_id)) as ledger:
        ledger.write(make_verdict(0))
    assert as_version_1(path)[:-1] == written


def write_until_full(ledger: Ledger, make_verdict: Make, start: int, batch: int) -> int:
    """Write batches until the disk is full; the first sequence that is not in."""
    for sequence in range(start, start + 100_000, batch):
        try:
            ledger.write_all([make_verdict(n) for n in range(sequence, sequence + batch)])
        except LedgerFull as error:
            assert "the disk is full" in str(error)
            return sequence
    raise AssertionError("the disk never filled up")


@pytest.mark.parametrize("batch", [1, 16])
def test_disk_full_again_and_again(small_disk: Path, run_id: str, make_verdict: Make, batch: int) -> None:
    path = small_disk / "ledger.sqlite"
    fillers = [small_disk / f"filler{number}" for number in range(3)]
    for filler in fillers:
        filler.write_bytes(bytes(150_000))
    written = 0
    with closing(Ledger(path, run_id)) as ledger:
        for filler in fillers:
            until = write_until_full(ledger, make_verdict, written, batch)
            assert until > written
            written = until
            for _ in range(5):  # it keeps saying so, for events as well
                with pytest.raises(LedgerFull):
                    ledger.write_all([make_verdict(n) for n in range(written, written + 500)])
            assert [row.sequence for row in read_rows(path)] == list(range(written))
            filler.unlink()
            ledger.write(make_verdict(written))
            ledger.event("disk", "room again")
            written += 1
    assert [row.sequence for row in read_rows(path)] == list(range(written))
    assert [event.kind for event in read_events(path)] == ["disk"] * 3
    assert integrity_of(path) == "ok"


def test_kill_on_a_full_disk_keeps_what_was_acknowledged(small_disk: Path, run_id: str, make_verdict: Make) -> None:
    path = small_disk / "ledger.sqlite"
    ledger = Ledger(path, run_id)
    written = write_until_full(ledger, make_verdict, 0, 1)
    copy = small_disk.parent / "after the power cut"
    shutil.copytree(small_disk, copy)  # what the disk holds at that moment, log and all
    ledger.close()
    assert [row.sequence for row in read_rows(copy / path.name)] == list(range(written))
    assert integrity_of(copy / path.name) == "ok"


def test_file_limit_is_no_room_either(path: Path, run_id: str, make_verdict: Make) -> None:
    import resource

    with closing(Ledger(path, run_id)) as ledger:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
        try:
            written = write_until_full(ledger, make_verdict, 0, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        ledger.write(make_verdict(written))
    assert [row.sequence for row in read_rows(path)] == list(range(written + 1))


def test_disk_mounted_read_only(small_disk: Path, run_id: str, make_verdict: Make) -> None:
    path = small_disk / "ledger.sqlite"
    with closing(Ledger(path, run_id)) as ledger:
        ledger.write(make_verdict(0))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert [row.sequence for row in read_rows(path)] == [0]
    with pytest.raises(OutputError):
        Ledger(path, run_id)


def test_copy_without_its_log_is_read(path: Path, tmp_path: Path, run_id: str, make_verdict: Make) -> None:
    copy = tmp_path / "copy" / "ledger.sqlite"
    copy.parent.mkdir()
    with closing(Ledger(path, run_id)) as ledger:
        ledger.write_all([make_verdict(n) for n in range(5)])
        ledger._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ledger.write(make_verdict(5))
        shutil.copy(path, copy)
        assert len(list(read_rows(path))) == 6
    assert [row.sequence for row in read_rows(copy)] == list(range(5))


def _damaged(whole: bytes, seed: int) -> bytes:
    """Cut, with flipped bytes, with a page of zeros or of noise, or with a page of another place."""
    random = np.random.default_rng(seed)
    data = bytearray(whole)
    page = 4096 * int(random.integers(0, len(data) // 4096))
    match seed % 6:
        case 0:
            del data[int(random.integers(0, len(data))) :]
        case 1:
            for place in random.integers(0, len(data), 50):
                data[place] ^= int(random.integers(1, 256))
        case 2:
            data[page : page + 4096] = bytes(4096)
        case 3:
            data[page : page + 4096] = random.bytes(4096)
        case 4:
            data[page : page + 4096] = whole[:4096]
        case _:
            data[int(random.integers(0, 100))] ^= int(random.integers(1, 256))  # the header
    return bytes(data)


@pytest.mark.parametrize("version", [1, 2])
def test_damage_is_one_line_or_unnoticed(path: Path, tmp_path: Path, make_verdict: Make, version: int) -> None:
    if version == 1:
        write_version_1(path, 60)
    else:
        with closing(Ledger(path, "run")) as ledger:
            ledger.write_all([make_verdict(n) for n in range(120)])
    whole, told = path.read_bytes(), 0
    for seed in range(120):
        victim = tmp_path / f"victim{seed}.sqlite"
        victim.write_bytes(_damaged(whole, seed))
        for use in (_read, counts, check_ledger, figures, _exported, lambda at: _written_into(at, make_verdict)):
            try:
                use(victim)
            except OutputError as error:
                told += 1
                assert "\n" not in str(error)
                assert str(error).startswith(str(victim))
    assert told > 100


def _read(path: Path) -> None:
    assert len(list(read_rows(path))) <= 120
    list(read_events(path))


def _exported(path: Path) -> None:
    export_ledger(path, path.with_suffix(".csv"))
    if importlib.util.find_spec("pyarrow"):
        export_ledger(path, path.with_suffix(".parquet"), "parquet")


def _written_into(path: Path, make_verdict: Make) -> None:
    with closing(Ledger(path, "later")) as ledger:
        ledger.write_all([make_verdict(n, part_id=f"later-{n}") for n in range(20)])
        ledger.event("note", "written into a damaged file")


def test_what_every_connection_says_when_the_version_is_wrong(path: Path) -> None:
    Ledger(path, "run").close()
    for version in (0, -1, 3):
        with closing(sqlite3.connect(path)) as database:
            database.execute(f"PRAGMA user_version = {version}")
        for use in (lambda: list(read_rows(path)), lambda: Ledger(path, "run")):
            with pytest.raises(
                OutputError, match=f"version {version}, this program knows {ledger_file.SCHEMA_VERSION}"
            ):
                use()
