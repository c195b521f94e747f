"""kill -9 of a working station, again and again, on one ledger: what it had acknowledged is looked for afterwards.

The station is a process of its own (tests/station/station_child.py: real camera, loop, recorder, ledger and archive,
only the network is a fake) at full speed, with a picture archived for every fifth part. It writes each part id to a
pipe once the commit returned; what stands in that pipe counts as acknowledged. It is killed at a random moment, every
fifth time while it still starts. A kill is no power cut for the disk: what the disk promised and did not keep shows
only where the plug is pulled.

    python benchmarks/power_cut.py --rounds 50 -o benchmarks/results/power_cut.json
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from entry import one_line, require_folder, require_rounds

from segdec_edge import __version__
from segdec_edge.files import require_place, write_atomic
from segdec_edge.outputs.archive import CLASSES, Archive
from segdec_edge.outputs.ledger import read_rows
from segdec_edge.outputs.ledger_check import check_ledger

ROOT = Path(__file__).parents[1]
CHILD = ROOT / "tests" / "station" / "station_child.py"


def make_pictures(folder: Path) -> None:
    """20 plain parts with some contrast; brightness is the score, and every fifth is a defect."""
    folder.mkdir()
    for number in range(20):
        picture = np.full((64, 96), 200 if number % 5 == 0 else 50 + number, np.uint8)
        picture[:5] += 100
        cv2.imwrite(str(folder / f"{number:02}.png"), picture)


def killed(pictures: Path, base: Path, after_s: float, from_start: bool) -> list[str]:
    """The part ids that a station acknowledged until it was killed."""
    command = [sys.executable, "-P", str(CHILD), str(pictures), str(base)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    with (
        (base / "log").open("a") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment) as station,
    ):
        assert station.stdout is not None
        first = b"" if from_start else station.stdout.readline()
        # Whoever does not read would hold up the station at a full pipe, and no moment would be random any more.
        read, until = [first], time.monotonic() + after_s
        os.set_blocking(station.stdout.fileno(), False)
        while time.monotonic() < until:
            read.append(station.stdout.read() or b"")
            time.sleep(0.002)
        station.kill()
        os.set_blocking(station.stdout.fileno(), True)
        read.append(station.stdout.read())
    return [line.decode() for line in b"".join(read).splitlines(keepends=True) if line.endswith(b"\n")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to write; on the disk to be tried")
    parser.add_argument("-o", "--out", type=Path, required=True)
    asked = parser.parse_args()
    require_rounds(asked.rounds, 1)
    require_folder(asked.folder)
    require_place(asked.out)
    moments = random.Random(asked.seed)
    with TemporaryDirectory(dir=asked.folder) as name:
        base = Path(name)
        make_pictures(base / "pictures")
        rounds = []
        acknowledged: list[str] = []
        for number in range(asked.rounds):
            from_start = number % 5 == 4
            after_s = moments.uniform(0.0, 3.0 if from_start else 1.5)
            seen = [line.strip() for line in killed(base / "pictures", base, after_s, from_start)]
            acknowledged += seen
            rounds.append({"after_s": round(after_s, 3), "while_starting": from_start, "acknowledged": len(seen)})
            print(number, rounds[-1], flush=True)
        record = {
            "segdec_edge": __version__,
            "sqlite": sqlite3.sqlite_version,
            **judged(base, acknowledged),
            "rounds": rounds,
        }
    write_atomic(asked.out, json.dumps(record, indent=1) + "\n")
    print(json.dumps({name: value for name, value in record.items() if name != "rounds"}, indent=1))


def judged(base: Path, acknowledged: list[str]) -> dict[str, object]:
    stored = Counter(row.part_id for row in read_rows(base / "ledger.sqlite"))
    check = check_ledger(base / "ledger.sqlite")
    archive = Archive(base / "archive", "all", 10**12)
    lying = sum(
        path.stat().st_size for name in CLASSES for path in (base / "archive" / name).glob("*.*g") if path.is_file()
    )
    log = (base / "log").read_text()
    return {
        "acknowledged": len(acknowledged),
        "lost": len(set(acknowledged) - set(stored)),
        "doubled": sum(count - 1 for count in stored.values()),
        "recorded_but_not_acknowledged": len(set(stored) - set(acknowledged)),
        "ledger_is_whole": check.is_whole,
        "triggers_without_verdict": check.missing,
        "runs": check.runs,
        "archive_counts_right": archive.total_bytes == lying,
        "tracebacks_in_the_log": log.count("Traceback"),
    }


if __name__ == "__main__":
    one_line(main)
