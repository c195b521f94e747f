"""Writes rows for ever and prints each acknowledged part id; run and killed by test_ledger.py."""

from __future__ import annotations

import sys
from pathlib import Path

from segdec_edge.outputs.ledger import Ledger
from segdec_edge.types import Label, Verdict


def main(path: Path, run_id: str) -> None:
    ledger = Ledger(path, run_id)
    sequence = 0
    while True:
        part_id = f"{run_id}-{sequence:06d}"
        ledger.write(Verdict(part_id, sequence, Label.OK, 0.25, 0.5, "below", sequence, sequence, 1.0, "ab", "x.png"))
        sys.stdout.write(part_id + "\n")
        sys.stdout.flush()
        sequence += 1


main(Path(sys.argv[1]), sys.argv[2])
