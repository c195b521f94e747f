"""Pictures that cannot be judged, many in a row: a covered lens, light that is off, a wrong region, incomplete frames.

An alarm a camera. Knows no camera and no backend; it changes no verdict.
"""

from __future__ import annotations

from collections import Counter

from segdec_edge.station.alarms import Alarms

IN_A_ROW = 5
"""One picture may be a hand before the lens; five in a row are none, and 0.2 s of a camera with 25 pictures a second.
As many as batches without a prediction before a backend is opened again (lane.FAILURES_IN_A_ROW)."""


class PictureWatch:
    """Of the cameras of one lane. Any thread may call."""

    def __init__(self, alarms: Alarms) -> None:
        self._alarms = alarms
        self._row = Counter[str]()

    def unusable(self, camera: str, reason: str) -> None:
        """A picture could not be judged, or did not come whole; reason: why, and what to do."""
        self._row[camera] += 1
        if self._row[camera] >= IN_A_ROW:
            message = f"no usable picture {self._row[camera]} times in a row, so that none is OK. The last: {reason}"
            self._alarms.raised(_name(camera), message)

    def usable(self, camera: str) -> None:
        """A picture that shows something: the alarm is over."""
        if self._row.pop(camera, 0) >= IN_A_ROW:
            self._alarms.cleared(_name(camera), "usable pictures again")


def _name(camera: str) -> str:
    return f"pictures {camera}"
