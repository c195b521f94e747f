"""A station of its own process for test_station_stop.py: the real camera, loop, recorder and ledger, a fake backend.

Prints each part id once its row is durable, and at the end how many parts there were.
"""

from __future__ import annotations

import argparse
import logging
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes import FakeBackend

from segdec_edge.cameras.replay import ReplayCamera
from segdec_edge.decision import Rule
from segdec_edge.errors import SegdecError
from segdec_edge.outputs.archive import Archive
from segdec_edge.outputs.ledger import Ledger
from segdec_edge.station.inspection import Inspector
from segdec_edge.station.loop import new_run_id, run_station
from segdec_edge.station.recorder import Recorder


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class TellingLedger(Ledger):
    pause_s = 0.0

    def write_all(self, verdicts) -> None:
        time.sleep(self.pause_s)
        super().write_all(verdicts)
        for verdict in verdicts:
            say(verdict.part_id)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--inference-s", type=float, default=0.0)
    parser.add_argument("--ledger-s", type=float, default=0.0)
    parser.add_argument("--file-limit", type=int)
    parser.add_argument("--stop-on-ledger-failure", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)

    def judge(picture) -> float:
        time.sleep(options.inference_s)
        return float(picture.mean()) / 255

    if options.file_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.file_limit, options.file_limit))
    run_id = new_run_id()
    ledger = TellingLedger(options.base / "ledger.sqlite", run_id)
    ledger.pause_s = options.ledger_s
    recorder = Recorder(ledger, Archive(options.base / "archive"), stops=options.stop_on_ledger_failure)
    inspector = Inspector(FakeBackend(judge), Rule(0.5), "ab" * 32)
    try:
        with ReplayCamera(options.source, options.rate, loop=True) as camera:
            summary = run_station(camera, inspector, recorder, run_id=run_id)
    except SegdecError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    finally:
        ledger.close()
    say(f"parts {summary.parts}")
    return 0


sys.exit(main())
