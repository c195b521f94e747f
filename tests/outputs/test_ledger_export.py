"""Exports: every row, as it is, whole or not at all, while a station writes."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from segdec_edge.errors import OutputError, StorageError
from segdec_edge.outputs import ledger_read
from segdec_edge.outputs.ledger import Ledger, read_rows
from segdec_edge.outputs.ledger_export import COLUMNS, export_ledger
from segdec_edge.outputs.ledger_read import Selection
from segdec_edge.types import Label, Verdict

Make = Callable[..., Verdict]
SECOND = 1_000_000_000


@pytest.fixture
def path(tmp_path: Path, run_id: str, make_verdict: Make) -> Path:
    """30 parts of two cameras, one a second from 100 s after 2001-09-09T01:46:40Z on; every third UNKNOWN."""
    path = tmp_path / "ledger.sqlite"
    start = 1_000_000_100 * SECOND
    with closing(Ledger(path, run_id)) as ledger:
        for n in range(30):
            label, camera = (Label.UNKNOWN if n % 3 == 0 else Label.OK), ("left", "right")[n % 2]
            score = None if label is Label.UNKNOWN else 0.1 + n / 1000
            text = 'a "quoted", long\nreason; ä' if n == 3 else "because"
            ledger.write(
                make_verdict(n, label, camera=camera, score=score, reason=text, captured_ns=start + n * SECOND)
            )
    return path


def rows_of(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_holds_every_row_bit_for_bit(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_read, "_CHUNK", 7)
    out = tmp_path / "parts.csv"
    assert export_ledger(path, out) == 30
    exported = rows_of(out)
    assert tuple(exported[0]) == COLUMNS
    for row, wrote in zip(read_rows(path), exported, strict=True):
        assert [wrote[name] for name in row._fields] == ["" if value is None else str(value) for value in row]
    assert exported[0]["captured_utc"] == "2001-09-09T01:48:20.000000Z"
    assert exported[3]["reason"] == 'a "quoted", long\nreason; ä'


@pytest.mark.parametrize(
    ("selection", "numbers"),
    [
        (Selection(camera="left"), range(0, 30, 2)),
        (Selection(label=Label.UNKNOWN), range(0, 30, 3)),
        (Selection(camera="right", label=Label.UNKNOWN), range(3, 30, 6)),
        (Selection(since_ns=1_000_000_110 * SECOND, until_ns=1_000_000_115 * SECOND), range(10, 15)),
        (Selection(run_id="another"), range(0)),
        (Selection(after=0), range(30)),
        (Selection(after=27), range(27, 30)),
        (Selection(after=30), range(0)),
    ],
)
def test_selection(path: Path, tmp_path: Path, selection: Selection, numbers: range) -> None:
    out = tmp_path / "parts.csv"
    assert export_ledger(path, out, selection=selection) == len(numbers)
    assert [int(row["sequence"]) for row in rows_of(out)] == list(numbers)


def test_parquet_holds_every_row_bit_for_bit(path: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "parts.parquet"
    assert export_ledger(path, out, "parquet") == 30
    table = parquet.read_table(out)
    assert tuple(table.column_names) == COLUMNS
    for row, wrote in zip(read_rows(path), table.to_pylist(), strict=True):
        assert tuple(wrote[name] for name in row._fields) == row


def test_parquet_without_pyarrow_says_what_to_add(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(OutputError, match=r"segdec-edge\[parquet\]"):
        export_ledger(path, tmp_path / "parts.parquet", "parquet")
    assert not (tmp_path / "parts.parquet").exists()


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_export_onto_the_ledger_is_refused(path: Path, end: str) -> None:
    before = path.read_bytes()
    with pytest.raises(OutputError, match="the ledger itself"):
        export_ledger(path, path.parent / "." / f"{path.name}{end}")
    assert path.read_bytes() == before


def test_export_that_fails_leaves_the_old_one(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "parts.csv"
    out.write_text("the old one")
    with pytest.raises(OutputError, match="no such ledger"):
        export_ledger(tmp_path / "none.sqlite", out)
    with path.open("r+b") as file:  # all but the first page: the version can be read, the rows cannot
        file.seek(4096)
        file.write(bytes(path.stat().st_size - 4096))
    with pytest.raises(OutputError, match="malformed"):
        export_ledger(path, out)
    with pytest.raises(StorageError):
        export_ledger(path, tmp_path / "no folder" / "parts.csv")
    assert out.read_text() == "the old one"
    assert not list(tmp_path.glob(".segdec_tmp*"))


def test_export_while_a_station_writes(path: Path, tmp_path: Path, make_verdict: Make) -> None:
    with closing(Ledger(path, "later")) as ledger:
        ledger.write(make_verdict(0, part_id="later-0"))
        assert export_ledger(path, tmp_path / "parts.csv") == 31
        ledger.write(make_verdict(1, part_id="later-1"))
    assert len(list(read_rows(path))) == 32
