"""The scenarios of gige.py through a whole station: feed, register, lane, recorder, ledger and an output.

The backend is a null one, so what is measured is the station: which parts it judged, on which picture, and what it said
of the others. Afterwards the ledger must hold each part once.

    python benchmarks/gige_station.py -o benchmarks/results/gige_station.json
"""

from __future__ import annotations

import sys
import threading
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent))
import gige
from entry import one_line
from gige import AWAY, BACKOFF_S, FRAME_TIMEOUT_S, Outcomes, Whole

from segdec_edge.cameras import open_camera
from segdec_edge.config.camera import AravisConfig
from segdec_edge.decision import Rule
from segdec_edge.outputs.archive import Archive
from segdec_edge.outputs.ledger import Ledger, read_rows
from segdec_edge.pictures import prepare
from segdec_edge.station.events import CameraEvent, CameraState
from segdec_edge.station.grab import Source
from segdec_edge.station.inspection import Inspector
from segdec_edge.station.judging import Judges
from segdec_edge.station.loop import Station
from segdec_edge.station.part import new_run_id
from segdec_edge.station.recorder import Recorder
from segdec_edge.station.setup import StationSource
from segdec_edge.station.stop import Stop
from segdec_edge.types import Frame, Label, Pixels, Verdict
from tests.fakes import FakeBackend, level


class AnyPicture(Inspector):
    """The simulated camera's pictures are of one grey level, which a station would not judge."""

    def prepare(self, frame: Frame) -> Pixels:
        return prepare(frame.pixels, self.backend.spec.size_hw, self.backend.spec.channels)


class StationLine:
    """A station on a thread, running when this is made. Parts are numbered by the station."""

    def __init__(self, table: AravisConfig, whole: Whole) -> None:
        self.outcomes = Outcomes()
        self._whole, self._folder, self._stop = whole, TemporaryDirectory(), Stop()
        self._ledger = Ledger(Path(self._folder.name) / "ledger.sqlite", run_id := new_run_id())
        source = Source(
            "camera",
            table.trigger,
            "latest" if table.trigger == "free" else "lossless",
            timeout_s=FRAME_TIMEOUT_S,
            backoff_s=(BACKOFF_S, BACKOFF_S),
        )
        self._station = Station(
            [StationSource(source, partial(open_camera, table))],
            {"backend": self._judges},
            Recorder(self._ledger, Archive(Path(self._folder.name) / "archive", "none")),
            run_id=run_id,
            outputs={"outcomes": self},
            stop=self._stop,
            on_event=self._event,
        )
        self._thread = threading.Thread(target=self._station.run)
        self._thread.start()
        while self._station.states()["camera"] is not CameraState.RUNNING:
            time.sleep(0.01)

    def trigger(self) -> int:
        return int(self._station.trigger("camera").rsplit("-", 1)[1])

    def write(self, verdict: Verdict, frame: Frame | None) -> None:
        """As an output of the station."""
        if verdict.label is Label.UNKNOWN or frame is None:
            self.outcomes.unknown[verdict.sequence] = _kind(verdict.reason)
            return
        now_ns = time.monotonic_ns()
        self.outcomes.judged[verdict.sequence] = self._whole(frame)
        self.outcomes.given_s.append(now_ns / 1e9)
        self.outcomes.age_ms.append((now_ns - frame.captured_monotonic_ns) / 1e6)

    def close(self) -> None:
        """As a line: end the station and look into its ledger. As an output: the same, once."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._stop.request()
        self._thread.join()
        self._ledger.close()
        rows = [row.sequence for row in read_rows(Path(self._folder.name) / "ledger.sqlite")]
        told = sorted([*self.outcomes.judged, *self.outcomes.unknown])
        if sorted(rows) != told:
            raise SystemExit(f"{len(rows)} rows, {len(told)} verdicts told")
        self._folder.cleanup()

    def _judges(self) -> Judges:
        backend = FakeBackend(level)
        return Judges(backend, {"camera": AnyPicture(backend, Rule(0.5), "", any_size=True)})

    def _event(self, event: CameraEvent) -> None:
        if event.state is CameraState.LOST:
            self.outcomes.losses_s.append(time.monotonic())


def _kind(reason: str) -> str:
    """The reason without its numbers."""
    if reason.startswith("not triggered"):
        return AWAY
    return reason.split(": ", 2)[-1].split(" (")[0].rstrip(".")


if __name__ == "__main__":
    one_line(partial(gige.main, StationLine))
