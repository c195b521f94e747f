"""What a row costs as the ledger grows: writing, commits, checkpoints, reading; the archive's start with 10^5 parts.

Peer, in the same run and the same modes: the plain sqlite3 loop (one table, one INSERT and one commit a row, WAL,
synchronous FULL), which is what most tutorials show. Both write to the same disk.

    python benchmarks/ledger_scale.py --folder /data -o benchmarks/results/ledger_scale.json
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from entry import one_line, read_record, require_folder, require_rounds

from segdec_edge import __version__
from segdec_edge.files import require_place, write_atomic
from segdec_edge.outputs import ledger_file
from segdec_edge.outputs.archive import Archive
from segdec_edge.outputs.ledger import Ledger, read_rows
from segdec_edge.outputs.ledger_check import check_ledger
from segdec_edge.outputs.ledger_export import export_ledger
from segdec_edge.outputs.ledger_stats import figures
from segdec_edge.types import Label, Region, Verdict

SIZES = (10_000, 100_000, 1_000_000)
BATCHES = (1, 16, 64, 512)
RUN_ROWS = 20_000
OUTLINE = tuple((100 + n, 200 + n * n % 37) for n in range(24))


def verdict(number: int) -> Verdict:
    """A part as a line makes them: 2 % defects with their outline, 0.1 % UNKNOWN, two cameras, the PLC's own names."""
    run = f"20260102T{number // RUN_ROWS:06d}Z-0a1b2c"
    label = Label.UNKNOWN if number % 1000 == 7 else Label.DEFECT if number % 50 == 3 else Label.OK
    regions = (Region((100, 200, 24, 37), OUTLINE, 600.5, 0.97),) if label is Label.DEFECT else ()
    camera, sequence = ("left", "right")[number % 2], number % RUN_ROWS // 2
    captured = 1_760_000_000_000_000_000 + number * 40_000_000
    score = None if label is Label.UNKNOWN else (number * 7919 % 10_000) / 10_000
    return Verdict(
        f"{run}-{camera}-{sequence:06d}",
        sequence,
        label,
        score,
        0.5,
        "score below 0.5",
        captured,
        captured + 9_000_000,
        9.0,
        "ab" * 32,
        f"gige://line-camera-{camera}",
        camera=camera,
        recipe="lids",
        given_id=f"SN{number * 2654435761 % 2**32:010d}",
        regions=regions,
        bundle_digest="cd" * 32,
    )


def milliseconds(samples: list[float]) -> dict[str, float]:
    found = np.quantile(samples, [0.5, 0.99, 0.999, 1.0]) * 1e3
    return {name: round(float(value), 3) for name, value in zip(("p50", "p99", "p99.9", "max"), found, strict=True)}


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return round(time.perf_counter() - started, 3)


def ours(path: Path, start: int, stop: int, batch: int) -> Iterator[float]:
    """Seconds of each transaction; the runs change within."""
    number = start
    while number < stop:
        until = min(stop, number - number % RUN_ROWS + RUN_ROWS)
        with closing(Ledger(path, verdict(number).part_id[:23])) as ledger:
            for first in range(number, until, batch):
                parts = [verdict(n) for n in range(first, min(first + batch, until))]
                started = time.perf_counter()
                ledger.write_all(parts)
                yield time.perf_counter() - started
        number = until


class Plain:
    """The peer."""

    def __init__(self, path: Path) -> None:
        self.database = sqlite3.connect(path)
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("PRAGMA synchronous = FULL")
        self.database.execute(
            "CREATE TABLE IF NOT EXISTS parts (part_id TEXT PRIMARY KEY, verdict TEXT, score REAL, threshold REAL,"
            " reason TEXT, captured_ns INTEGER, decided_ns INTEGER, latency_ms REAL, bundle TEXT, source TEXT)"
        )

    def write(self, start: int, stop: int) -> Iterator[float]:
        for part in map(verdict, range(start, stop)):
            started = time.perf_counter()
            self.database.execute(
                "INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    part.part_id,
                    part.label.value,
                    part.score,
                    part.threshold,
                    part.reason,
                    part.captured_ns,
                    part.decided_ns,
                    part.latency_ms,
                    part.bundle_sha256,
                    part.source,
                ),
            )
            self.database.commit()
            yield time.perf_counter() - started


def side_by_side(folder: Path, rounds: int, rows: int) -> dict[str, object]:
    """Ours in batches of several sizes and the peer, in turns: rows a second and processor time of a row by rounds."""
    speeds: dict[str, list[int]] = {}
    work_us: dict[str, list[float]] = {}
    commits: dict[str, list[float]] = {}
    plain = Plain(folder / "plain.sqlite")
    for turn in range(rounds):
        first = turn * rows
        turns: dict[str, Callable[[], Iterator[float]]] = {
            f"ours, {batch} a commit": partial(ours, folder / f"ours{batch}.sqlite", first, first + rows, batch)
            for batch in BATCHES
        }
        turns["plain sqlite3 loop"] = partial(plain.write, first, first + rows)
        for name, write in turns.items():
            before = time.process_time()
            spent = list(write())
            work_us.setdefault(name, []).append(round((time.process_time() - before) / rows * 1e6, 1))
            speeds.setdefault(name, []).append(round(rows / sum(spent)))
            commits.setdefault(name, []).extend(spent)
    plain.database.close()
    return {
        name: {"rows_per_s": speed, "processor_us_per_row": work_us[name], "commit_ms": milliseconds(commits[name])}
        for name, speed in speeds.items()
    }


def look_up(path: Path, column: str, key: str | None) -> None:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute(f"SELECT * FROM parts WHERE {column} = ?", (key,)).fetchall()


def growth(folder: Path, sizes: tuple[int, ...]) -> list[dict[str, object]]:
    path, at, found = folder / "growing.sqlite", 0, []
    for size in sizes:
        filling = list(ours(path, at, size - 5000, 512))
        single = list(ours(path, size - 5000, size, 1))
        at = size
        last = verdict(size - 1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = {
            "export_csv": timed(lambda: export_ledger(path, folder / "out.csv")),
            "verify": timed(lambda: check_ledger(path)),
            "stats": timed(lambda: figures(path)),
            "one_run": timed(lambda last=last: list(read_rows(path, last.part_id[:23]))),  # type: ignore[misc]
        }
        for name, key in (("part_id", last.part_id), ("given_id", last.given_id)):
            seconds[f"by_{name}"] = timed(lambda name=name, key=key: look_up(path, name, key))  # type: ignore[misc]
        found.append(
            {
                "rows": size,
                "bytes_per_row": round(path.stat().st_size / size),
                "filling_rows_per_s": round((size - 5000 - (0 if not found else found[-1]["rows"])) / sum(filling)),  # type: ignore[operator]
                "commit_of_512_ms": milliseconds(filling),
                "commit_of_1_ms": milliseconds(single),
                "seconds": seconds,
                "grown_rss_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before,
            }
        )
        print(json.dumps(found[-1]))
    return found


def checkpoints(folder: Path, rows: int) -> dict[str, object]:
    """Commits of 16 rows by how many pages of log are copied at once."""
    found = {}
    for pages in (250, 1000, 4000, 16000):
        ledger_file.CHECKPOINT_PAGES = pages
        path = folder / f"checkpoint{pages}.sqlite"
        found[f"{pages} pages"] = milliseconds(list(ours(path, 0, rows, 16)))
        path.unlink()
    ledger_file.CHECKPOINT_PAGES = 1000
    return found


def indexes(folder: Path, rows: int) -> dict[str, object]:
    """Rows a second with the indexes we have, fewer, and more."""
    as_is = ledger_file._INDEXES
    given = "CREATE INDEX parts_by_given_id ON parts (given_id) WHERE given_id IS NOT NULL;"
    run = "CREATE INDEX parts_by_run ON parts (run_id);"
    choices = {
        "run, given_id (ours)": as_is,
        "run only": run,
        "run, camera, sequence": "CREATE INDEX parts_by_run ON parts (run_id, camera, sequence);",
        "run, given_id, captured_ns": f"{run}{given}CREATE INDEX parts_by_time ON parts (captured_ns);",
    }
    found = {}
    create = ledger_file._CREATE
    for name, chosen in choices.items():
        ledger_file._CREATE = create.replace(as_is, chosen)
        path = folder / "indexes.sqlite"
        spent = list(ours(path, 0, rows, 512))
        found[name] = {"rows_per_s": round(rows / sum(spent)), "bytes_per_row": round(path.stat().st_size / rows)}
        path.unlink()
    ledger_file._CREATE = create
    return found


def archive_start(folder: Path, parts: int) -> dict[str, object]:
    """Seconds until an archive with so many parts is ready, without its list (an upgrade) and with it."""
    shelf = folder / "archive" / "DEFECT"
    shelf.mkdir(parents=True)
    for number in range(parts):
        for end in (".png", "_overlay.jpg"):
            (shelf / f"20260102T030405Z-0a1b2c-left-{number:06d}{end}").write_bytes(b"12345678")
    first = timed(lambda: Archive(folder / "archive", "all", 10**9))
    again = timed(lambda: Archive(folder / "archive", "all", 10**9))
    full = Archive(folder / "archive", "all", parts * 16 - 8, reserve_bytes=0)
    before = time.process_time()
    for _ in range(1000):
        full._drop_one("DEFECT")
    leaves_us = round((time.process_time() - before) * 1e3, 1)
    shutil.rmtree(folder / "archive")
    return {"parts": parts, "first_start_s": first, "next_start_s": again, "one_part_leaves_processor_us": leaves_us}


def migration(folder: Path, rows: int) -> dict[str, object]:
    path = folder / "old.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(
            "CREATE TABLE parts (part_id TEXT PRIMARY KEY NOT NULL, run_id TEXT NOT NULL, sequence INTEGER NOT NULL,"
            " verdict TEXT NOT NULL, score REAL, threshold REAL NOT NULL, reason TEXT NOT NULL, captured_ns INTEGER"
            " NOT NULL, decided_ns INTEGER NOT NULL, latency_ms REAL NOT NULL, bundle_sha256 TEXT NOT NULL, source TEXT"
            " NOT NULL); CREATE INDEX parts_by_run ON parts (run_id, sequence); PRAGMA application_id = 1396984903;"
            " PRAGMA user_version = 1; PRAGMA journal_mode = WAL;"
        )
        values = (
            (f"old-{n:06d}", "old", n, "OK", 0.1, 0.5, "score below 0.5", n, n, 9.0, "ab" * 32, "camera")
            for n in range(rows)
        )
        with database:
            database.executemany(f"INSERT INTO parts VALUES ({', '.join('?' * 12)})", values)
    return {"rows": rows, "seconds": timed(lambda: Ledger(path, "new").close())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write; on the disk to be measured")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--steps", nargs="+", help="only these, the others as the file has them")
    parser.add_argument("-o", "--out", type=Path, required=True)
    asked = parser.parse_args()
    require_folder(asked.folder)
    require_place(asked.out)
    require_rounds(min(asked.sizes), 1, "sizes")
    before = read_record(asked.out) if asked.steps and asked.out.exists() else {}
    record: dict[str, object] = before | {
        "segdec_edge": __version__,
        "sqlite": sqlite3.sqlite_version,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    steps: dict[str, Callable[[Path], object]] = {
        "side_by_side": lambda folder: side_by_side(folder, rounds=5, rows=2000),
        "checkpoints": lambda folder: checkpoints(folder, 64_000),
        "indexes": lambda folder: indexes(folder, 100_000),
        "growth": lambda folder: growth(folder, tuple(asked.sizes)),
        "migration": lambda folder: migration(folder, 1_000_000),
        "archive_start": lambda folder: archive_start(folder, 100_000),
    }
    if unknown := sorted(set(asked.steps or ()) - set(steps)):
        sys.exit(f"--steps {unknown[0]}: unknown, wanted some of {', '.join(steps)}")
    for name, step in steps.items():
        if asked.steps and name not in asked.steps:
            continue
        with TemporaryDirectory(dir=asked.folder) as place:
            record[name] = step(Path(place))
        print(name, json.dumps(record[name], indent=1), flush=True)
        write_atomic(asked.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    one_line(main)
