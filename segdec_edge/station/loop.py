"""The loop: every trigger gets exactly one verdict and one row. Knows no backend and no file."""

from __future__ import annotations

import logging
import secrets
from datetime import datetime, timezone

from segdec_edge.errors import EndOfStream, FrameLost
from segdec_edge.station.inspection import Inspector
from segdec_edge.station.recorder import Recorder
from segdec_edge.station.statistics import RunSummary, Statistics
from segdec_edge.station.stop import Stop
from segdec_edge.types import Camera, Frame, Label, Verdict

_log = logging.getLogger(__name__)


def new_run_id() -> str:
    """A name for a run that sorts by time and stays unique on boards whose clock starts anew at every boot."""
    return f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def part_id(run_id: str, sequence: int) -> str:
    """Unique over all runs."""
    return f"{run_id}-{sequence:06d}"


def run_station(
    camera: Camera,
    inspector: Inspector,
    recorder: Recorder,
    *,
    run_id: str,
    timeout_s: float = 5.0,
    statistics: Statistics | None = None,
    stop: Stop | None = None,
) -> RunSummary:
    """Inspect until the camera ends or a stop is wished for; then every verdict is durable.

    A stop lets the part under inspection finish; a camera that waits for a trigger is left at the next one, or after
    timeout_s. Raises CameraLost after all that was decided is recorded, and OutputError where that was not possible.
    """
    statistics = statistics or Statistics(run_id)
    stop = stop or Stop()
    # The recorder inside: a second Ctrl-C while it drains must not tear it down.
    with stop.on_signals(), recorder:
        _inspect_all(camera, inspector, recorder, run_id, timeout_s, statistics, stop)
    return statistics.summary(recorder.archive_failures)


def _inspect_all(
    camera: Camera,
    inspector: Inspector,
    recorder: Recorder,
    run_id: str,
    timeout_s: float,
    statistics: Statistics,
    stop: Stop,
) -> None:
    last_reason = ""
    while not stop.requested:
        frame: Frame | None = None
        try:
            frame = camera.read(timeout_s)
        except EndOfStream:
            return
        except FrameLost as lost:
            verdict = inspector.lost(lost, part_id(run_id, lost.sequence))
        else:
            verdict = _supervised(inspector, frame, part_id(run_id, frame.sequence))
        recorder.put(verdict, frame)
        statistics.add(verdict, lost=frame is None)
        if verdict.label is Label.UNKNOWN and verdict.reason != last_reason:  # the same fault at 60 Hz is one line
            last_reason = verdict.reason
            _log.warning("part %s is UNKNOWN: %s", verdict.part_id, verdict.reason)


def _supervised(inspector: Inspector, frame: Frame, part: str) -> Verdict:
    """Judge one frame; whatever breaks, the part is UNKNOWN, which the line rejects, and the next one gets its turn."""
    try:
        return inspector.inspect(frame, part)
    except Exception as error:  # noqa: BLE001 - the one supervisor: a fault here must become a reject, never a silence
        _log.exception("part %s: inspection failed", part)
        return inspector.unknown(frame, part, f"{type(error).__name__}: {error}")
