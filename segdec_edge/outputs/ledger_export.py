"""A ledger's rows as CSV or Parquet, in constant memory, whole or not at all. Changes nothing in the ledger."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from segdec_edge.errors import OutputError
from segdec_edge.files import write_atomic
from segdec_edge.outputs.ledger_file import Row, blaming_damage
from segdec_edge.outputs.ledger_read import ALL, Selection, read_rows

if TYPE_CHECKING:
    import pyarrow

Format = Literal["csv", "parquet"]
COLUMNS = (*Row._fields, "captured_utc")
"""The ledger's columns, and captured_ns in a form that people and tables read."""
_GROUP = 20_000
_INTEGERS = {"number", "sequence", "review", "captured_ns", "decided_ns", "device_ns"}
_REALS = {"score", "threshold", "latency_ms"}


def export_ledger(path: Path, out: Path, form: Format = "csv", selection: Selection = ALL) -> int:
    """Write the selected rows to `out` and give their number.

    Raises OutputError on a ledger that cannot be read, where `out` is the ledger, or without pyarrow for Parquet;
    StorageError where `out` cannot be written.
    """
    if out.resolve() in {path.resolve().with_name(path.name + end) for end in ("", "-wal", "-shm", "-journal")}:
        raise OutputError(f"{out}: is the ledger itself, nothing was written. Choose another file with --out.")
    writer = _csv_writer if form == "csv" else _parquet_writer()
    rows = _Counted(read_rows(path, selection=selection))
    with blaming_damage(path):
        write_atomic(out, lambda file: writer(file, rows))
    return rows.count


class _Counted:
    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows, self.count = rows, 0

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for row in self._rows:
            self.count += 1
            yield (*row, _utc(row.captured_ns))


def _csv_writer(file: BinaryIO, rows: _Counted) -> None:
    text = TextIOWrapper(file, encoding="utf-8", newline="")
    table = csv.writer(text)
    table.writerow(COLUMNS)
    table.writerows(rows)
    text.flush()
    text.detach()  # or its end would close the file before it is synced


def _parquet_writer() -> Callable[[BinaryIO, _Counted], None]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise OutputError(
            "Parquet needs pyarrow, which is not installed. Add it: pip install 'segdec-edge[parquet]'; or export CSV."
        ) from error
    types = [_arrow_type(pyarrow, name) for name in COLUMNS]
    schema = pyarrow.schema(list(zip(COLUMNS, types, strict=True)))

    def write(file: BinaryIO, rows: _Counted) -> None:
        every = iter(rows)
        with parquet.ParquetWriter(file, schema, compression="zstd") as table:
            while group := list(islice(every, _GROUP)):
                by_column = zip(*group, strict=True)
                columns = [pyarrow.array(column, kind) for column, kind in zip(by_column, types, strict=True)]
                table.write_table(pyarrow.Table.from_arrays(columns, schema=schema))

    return write


def _arrow_type(arrow: Any, name: str) -> pyarrow.DataType:
    if name in _INTEGERS:
        return arrow.int64()
    return arrow.float64() if name in _REALS else arrow.string()


def _utc(nanoseconds: int) -> str:
    """ISO 8601 to the microsecond; empty for a time that no calendar has."""
    try:
        return datetime.fromtimestamp(nanoseconds // 10**9, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S") + (
            f".{nanoseconds % 10**9 // 1000:06d}Z"
        )
    except (ValueError, OverflowError, OSError):
        return ""
