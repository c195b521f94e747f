"""A part under inspection, from its trigger to its verdict. Knows no camera, no backend and no file."""

from __future__ import annotations

import secrets
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from segdec_edge.types import Frame, Pixels

if TYPE_CHECKING:
    from segdec_edge.station.judging import AnyJudges


def new_run_id() -> str:
    """A name for a run that sorts by time and stays unique on boards whose clock starts anew at every boot.

    Such a board may name thousands of runs after one second: with 48 random bits, 10 000 of them meet with a chance
    of 2 in 10 million (24 bits, as earlier versions had: 95 in 100).
    """
    return f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(6)}"


def part_id(run_id: str, sequence: int, camera: str | None = None) -> str:
    """Unique over all runs. camera: its name where the station has several."""
    return f"{run_id}-{sequence:06d}" if camera is None else f"{run_id}-{camera}-{sequence:06d}"


class Part:
    """One trigger and what became of it. Changed by one thread at a time; `settled` by the register alone.

    opened_ns and deadline_ns on the monotonic clock, opened_wall_ns on the wall's; judges are those in office when its
    picture came, so that a part seen before a swap is judged by the old one; stage_ms how long each stage took.
    """

    __slots__ = (
        "camera",
        "deadline_ns",
        "frame",
        "given_id",
        "judges",
        "opened_ns",
        "opened_wall_ns",
        "part_id",
        "prepared",
        "queued_ns",
        "sequence",
        "settled",
        "source",
        "stage_ms",
    )

    def __init__(
        self,
        part_id: str,
        camera: str,
        sequence: int,
        *,
        opened_ns: int,
        opened_wall_ns: int,
        deadline_ns: int,
        given_id: str | None = None,
        frame: Frame | None = None,
    ) -> None:
        self.part_id, self.camera, self.sequence, self.given_id = part_id, camera, sequence, given_id
        self.opened_ns, self.opened_wall_ns, self.deadline_ns = opened_ns, opened_wall_ns, deadline_ns
        self.frame = frame
        self.source = frame.source if frame is not None else camera
        self.prepared: Pixels | None = None
        self.judges: AnyJudges | None = None
        self.queued_ns = opened_ns
        self.stage_ms: dict[str, float] = {}
        self.settled = False
