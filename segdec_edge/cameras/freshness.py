"""Is this frame of a live stream a fresh one? Knows clocks and counts, no camera.

What it cannot see: a delay that never changes (encoder, network, decoder), because a stream's clock starts anywhere.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Literal

Staleness = Literal["settling", "repeated", "stale"]

MAX_DRIFT = 500e-6
"""How much slower a camera's clock may run than the host's; ordinary crystals stay within 100e-6."""


class StreamClock:
    """Compares a stream's own time with the host's monotonic clock.

    Frames that are not held up keep the difference of the two at its minimum; one that lay in a buffer arrives later
    than its own time says, by as much as it lay there. The minimum may rise by MAX_DRIFT. Nothing is fresh before it
    has stood still for settle_s: what was buffered while the stream was opened comes first, in a burst. A stream whose
    time jumps or whose clock is too slow gives only stale frames from then on: open it again.
    """

    def __init__(self, max_lag_s: float, settle_s: float = 0.5) -> None:
        self._max_lag_s, self._settle_s = max_lag_s, settle_s
        self._least = self._anchor = float("inf")
        self._anchored_s, self._since_anchor = 0.0, 0
        self._last_stream_s, self._last_host_s = float("-inf"), float("inf")

    def judge(self, stream_s: float, host_s: float) -> tuple[float, Staleness | None]:
        """How late a frame is, in seconds behind the quickest, and why it is not fresh; None where it is.

        Both times in seconds, host_s when the frame arrived.
        """
        lag_s = self._lag(host_s - stream_s, host_s)
        newer, self._last_stream_s = stream_s > self._last_stream_s, max(stream_s, self._last_stream_s)
        if not self._settled(host_s):
            return lag_s, "settling"
        if not newer:
            return lag_s, "repeated"
        return lag_s, "stale" if lag_s > self._max_lag_s else None

    def _lag(self, offset_s: float, host_s: float) -> float:
        risen = self._least + MAX_DRIFT * max(0.0, host_s - self._last_host_s)
        self._least, self._last_host_s = min(offset_s, risen), host_s
        return offset_s - self._least

    def _settled(self, host_s: float) -> bool:
        """Whether the minimum has stood still; falling by a tenth of what is tolerated starts the wait anew."""
        if self._least < self._anchor - self._max_lag_s / 10:
            self._anchor, self._anchored_s, self._since_anchor = self._least, host_s, 0
        self._since_anchor += 1
        return self._since_anchor > 3 and host_s - self._anchored_s >= self._settle_s


class Gaps:
    """Counts the frames that a stream of even rate left out, from the times of those that came."""

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._steps: deque[float] = deque(maxlen=25)

    def missing(self, stream_s: float) -> int:
        """How many frames are missing before this one; 0 until the rate is known (5 frames). stream_s in seconds."""
        last_s, self._last_s = self._last_s, stream_s
        if last_s is None or stream_s <= last_s:
            return 0
        step = stream_s - last_s
        usual = median(self._steps) if len(self._steps) >= 5 else step
        self._steps.append(step)
        return max(0, round(step / usual) - 1)
