"""A thread that takes every frame of a free-running OpenCV capture and keeps the newest. Knows no device, no address.

Without it a reader that was busy for two seconds gets two seconds of old frames first. The thread also owns the
capture: a driver that hangs in grab() keeps the thread, never the station.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from types import TracebackType
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from segdec_edge.cameras.counters import CameraCounters
from segdec_edge.cameras.freshness import Gaps, StreamClock
from segdec_edge.errors import CameraError, CameraLost, PictureError
from segdec_edge.pictures import to_eight_bit
from segdec_edge.types import Frame, Pixels

CLOSE_WAIT_S = 2.0
_INTRA = ord("I")
# OpenCV 4.10 brought it; without it no frame counts as whole in itself, and a gap ends in CameraLost.
_FRAME_TYPE = getattr(cv2, "CAP_PROP_FRAME_TYPE", -1)


class Capture(Protocol):
    """What is used of cv2.VideoCapture."""

    def grab(self) -> bool: ...
    def retrieve(self) -> tuple[bool, NDArray[np.generic] | None]: ...
    def get(self, prop: int) -> float: ...
    def release(self) -> None: ...


class _Taken(NamedTuple):
    pixels: Pixels
    wall_ns: int
    host_ns: int
    stream_s: float
    lag_s: float


class DrainingCamera:
    """The newest frame of an open capture, never one older than max_age_s or one that was given before.

    name stands in messages and sources, so it holds no login. predicted: a picture may build on earlier ones (H.264),
    so that after a missing one all are damaged until the next that stands alone. captured_monotonic_ns is the time of
    grab(), device_ns the stream's own. counters.reasons: the frames that nobody got, superseded by a newer one, stale,
    aged while they waited, repeated, settling in the first settle_s and more, missing in the stream, damaged after a
    missing one or unreadable.
    """

    def __init__(
        self, capture: Capture, name: str, *, max_age_s: float, predicted: bool = False, settle_s: float = 0.5
    ) -> None:
        self._capture, self._name, self._max_age_s = capture, name, max_age_s
        self._clock, self._gaps = StreamClock(max_age_s, settle_s), Gaps()
        self._predicted = self._broken = predicted
        self._shape: tuple[int, ...] | None = None
        self._newest: _Taken | None = None
        self._ended = ""
        self._closed = False
        self._given = 0
        self._drops: Counter[str] = Counter()
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._drain, name=f"drain {name}", daemon=True)
        self._thread.start()

    @property
    def total(self) -> None:
        """A live source does not end."""
        return

    @property
    def counters(self) -> CameraCounters:
        """Frames given, and those that nobody got, by reason."""
        with self._news:
            drops = dict(self._drops)
        damaged = drops.get("damaged", 0) + drops.get("unreadable", 0)
        return CameraCounters(self._given, incomplete=damaged, gaps=drops.get("missing", 0), reasons=drops)

    def read(self, timeout_s: float) -> Frame:
        """The newest frame, or the next. Raises CameraLost where the stream ends or no fresh frame comes in time,
        CameraError after close().
        """
        deadline = time.monotonic() + timeout_s
        with self._news:
            while True:
                if self._closed:
                    raise CameraError(f"{self._name}: the camera was closed. Open it again.")
                if (taken := self._take()) is not None:
                    return self._frame(taken)
                if self._ended:
                    raise CameraLost(self._ended)
                if (left_s := deadline - time.monotonic()) <= 0:
                    raise CameraLost(self._silence(timeout_s))
                self._news.wait(left_s)

    def close(self) -> None:
        """Stop the thread, which releases the capture; where the driver hangs, as soon as it no longer does."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        self._thread.join(CLOSE_WAIT_S)

    def __enter__(self) -> DrainingCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self) -> _Taken | None:
        taken, self._newest = self._newest, None
        if taken is not None and (time.monotonic_ns() - taken.host_ns) / 1e9 + taken.lag_s > self._max_age_s:
            self._drops["aged"] += 1
            return None
        return taken

    def _frame(self, taken: _Taken) -> Frame:
        sequence, self._given = self._given, self._given + 1
        source, device_ns = f"{self._name}#{sequence}", round(taken.stream_s * 1e9)
        return Frame(taken.pixels, sequence, taken.wall_ns, taken.host_ns, source, device_ns)

    def _silence(self, timeout_s: float) -> str:
        dropped = ", ".join(f"{count} {reason}" for reason, count in self._drops.items())
        return (
            f"{self._name}: no fresh frame within {timeout_s:g} s (dropped since the start: {dropped or 'none came'})."
            " Check the camera, its cable and the network."
        )

    def _drain(self) -> None:
        ended = f"{self._name}: reading frames failed; the reason stands above. Open the camera again."
        try:
            while not self._closed:
                self._one()
            ended = f"{self._name}: the camera was closed. Open it again."
        except CameraLost as lost:
            ended = str(lost)
        except cv2.error as error:
            ended = f"{self._name}: OpenCV failed ({' '.join(str(error).split())}). Open the camera again."
        finally:
            with self._news:
                self._ended = ended
                self._news.notify_all()
            self._capture.release()

    def _one(self) -> None:
        if not self._capture.grab():
            raise CameraLost(f"{self._name}: the stream ended or fell silent. Check the camera, its cable and network.")
        wall_ns, host_ns = time.time_ns(), time.monotonic_ns()
        stream_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
        lag_s, reason = self._clock.judge(stream_s, host_ns / 1e9)
        whole = self._follow(stream_s)
        if reason is not None or not whole:
            self._drop(reason or "damaged")
            return
        pixels = self._pixels()
        if pixels is not None:
            self._offer(_Taken(pixels, wall_ns, host_ns, stream_s, lag_s))

    def _follow(self, stream_s: float) -> bool:
        """Whether the frame just grabbed stands alone or on frames that all came."""
        missing = self._gaps.missing(stream_s)
        if missing:
            self._drop("missing", missing)
        if not self._predicted:
            return True
        self._broken = (self._broken or missing > 0) and int(self._capture.get(_FRAME_TYPE)) != _INTRA
        return not self._broken

    def _pixels(self) -> Pixels | None:
        """(H, W) or (H, W, 3) BGR; None where the frame cannot be read. Raises CameraLost where its form changed."""
        decoded, raw = self._capture.retrieve()
        try:
            pixels = to_eight_bit(raw, self._name) if decoded and raw is not None else None
        except PictureError:
            pixels = None
        if pixels is None:
            self._drop("unreadable")
            return None
        self._shape = self._shape or pixels.shape
        if pixels.shape != self._shape:
            raise CameraLost(
                f"{self._name}: the picture changed from {self._shape} to {pixels.shape}. Open the camera again."
            )
        return pixels

    def _drop(self, reason: str, count: int = 1) -> None:
        with self._news:
            self._drops[reason] += count

    def _offer(self, taken: _Taken) -> None:
        with self._news:
            if self._newest is not None:
                self._drops["superseded"] += 1
            self._newest = taken
            self._news.notify_all()
