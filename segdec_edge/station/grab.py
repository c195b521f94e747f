"""What a camera gives becomes parts: numbered over all rebuilds, queued by the camera's policy. Makes no camera call of
its own: the feed's thread does, and hands over what came.

A camera object counts its triggers from 0; the parts of one camera in one run count on over every rebuild.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Event, Lock
from typing import Literal, Protocol

from segdec_edge.errors import CameraIdle, CameraLost, FrameLost
from segdec_edge.station.alarms import Alarms
from segdec_edge.station.intake import Intake, Policy
from segdec_edge.station.lane import Lane
from segdec_edge.station.part import Part
from segdec_edge.station.register import Register
from segdec_edge.station.supervisor import Turn
from segdec_edge.types import Frame

Trigger = Literal["free", "software", "hardware"]
MOST_MISSING = 1000
"""A larger gap in the frame ids is no row of lost frames but another numbering."""
NOT_READY = "the station was not ready"


@dataclass(frozen=True)
class Source:
    """How one camera is served.

    timeout_s: silence after which it counts as lost; backoff_s the shortest and the longest wait before it is opened
    again; deadline_ms from trigger to verdict; queue parts that may wait; interval_s between software triggers of the
    station's own. finite: a replay, which waits for room in the queue and is never opened again.
    """

    name: str = "camera"
    trigger: Trigger = "free"
    policy: Policy = "lossless"
    queue: int = 8
    timeout_s: float = 5.0
    deadline_ms: float | None = None
    backoff_s: tuple[float, float] = (0.5, 10.0)
    interval_s: float | None = None
    finite: bool = False


@dataclass(frozen=True)
class Around:
    """What a camera's pictures go to. go is set while the station is ready; wait_for_room: whether a source that can
    wait may go on.
    """

    register: Register
    lane: Lane
    alarms: Alarms
    go: Event
    wait_for_room: Callable[[float], bool]


class Calls(Protocol):
    """The camera's calls that may block. read gives a loss as a value and raises CameraLost and EndOfStream."""

    def read(self, timeout_s: float) -> Frame | FrameLost | CameraIdle: ...
    def trigger(self) -> int: ...


class Grab:
    """A free-running camera, or one that a hardware line triggers.

    frames and triggers count since the start, drops by reason the frames that never became a part.
    """

    def __init__(self, source: Source, around: Around) -> None:
        self.source, self.name = source, source.name
        self.frames = self.triggers = 0
        self.drops: Counter[str] = Counter()
        self.intake = Intake(around.lane.changed, source.policy, source.queue, self._newest_as_part)
        around.lane.serve(self.intake)
        self._register, self._lane, self._alarms = around.register, around.lane, around.alarms
        self._go, self._wait_for_room = around.go, around.wait_for_room
        self._lock = Lock()
        self._next = self._floor = 0
        self._base = self._expected = 0
        self._heard = 0.0
        self._running = False
        self._reason = "the camera is not open yet"

    @property
    def timeout_s(self) -> float:
        return self.source.timeout_s

    @property
    def backoff_s(self) -> tuple[float, float]:
        return self.source.backoff_s

    @property
    def is_finite(self) -> bool:
        return self.source.finite

    @property
    def expects_frame(self) -> bool:
        """Whether silence means that something is wrong."""
        return self.source.trigger == "free"

    @property
    def delivered(self) -> bool:
        """Whether this camera object has given a frame."""
        return self._expected > 0

    def begin(self) -> None:
        """A new camera object: its numbers start again."""
        with self._lock:
            self._base, self._expected, self._running = self._next, 0, True
            self._heard = time.monotonic()

    def lost(self, reason: str) -> None:
        """The camera object is gone, and the frame that nobody has looked at is old by now."""
        with self._lock:
            self._running, self._reason, self._floor = False, reason, self._next
        if self.source.policy == "latest" and self.intake.clear():
            self.drops["camera lost"] += 1

    def wake(self) -> None:
        """Nothing waits here."""

    def is_through(self, leaving: bool) -> bool:
        """Whether nothing is left to be read once the station stops."""
        return leaving

    def step(self, camera: Calls, turn: Turn) -> None:
        """One frame from the camera to the queue. Raises CameraLost and EndOfStream."""
        if self.is_finite and not (self.intake.wait_for_room(0.05) and self._wait_for_room(0.01)):
            return
        taken = camera.read(self.timeout_s)
        if isinstance(taken, CameraIdle):
            self._refuse_silence()
            return
        with self._lock:
            if turn.abandoned:
                return
            numbers, self._heard = self._numbered(taken.sequence), time.monotonic()
        if numbers is None:
            self.drops["given before"] += 1
        else:
            self._take(taken, *numbers)

    def _refuse_silence(self) -> None:
        silent_s = time.monotonic() - self._heard
        if self.expects_frame and silent_s >= self.timeout_s:
            raise CameraLost(f"{self.name}: no frame for {silent_s:.1f} s. Check power, cable and network.")

    def _numbered(self, sequence: int) -> tuple[range, int] | None:
        """The numbers of the parts missing before this one, and its own; None for a frame that was given before."""
        if sequence < self._expected:
            return None
        gap = sequence - self._expected
        if gap > MOST_MISSING:
            self._alarms.raised(f"camera {self.name} numbers", f"frame {sequence} came after {self._expected - 1}")
            self._base, gap = self._base - gap, 0
        own = self._base + sequence
        self._expected, self._next = sequence + 1, own + 1
        return range(own - gap, own), own

    def _take(self, taken: Frame | FrameLost, missing: range, sequence: int) -> None:
        if self.source.policy == "latest":
            self._newest(taken, len(missing), sequence)
            return
        for number in missing:
            self._unknown(self._open(number), "no picture came: a gap in the camera's frame numbers")
        part = self._open(sequence, taken if isinstance(taken, Frame) else None)
        if isinstance(taken, FrameLost):
            self._without_picture(part, taken)
        else:
            self.frames += 1
            self._enqueue(part)

    def _newest(self, taken: Frame | FrameLost, missing: int, sequence: int) -> None:
        if missing:
            self.drops["lost by the camera"] += missing
        if isinstance(taken, FrameLost):
            self.drops["incomplete"] += 1
            self._lane.pictures.unusable(self.name, str(taken))
            return
        self.frames += 1
        if not self._go.is_set():
            self.drops["not ready"] += 1
        elif self.intake.replace(_renumbered(taken, sequence)):
            self.drops["a newer one came"] += 1

    def _newest_as_part(self, frame: Frame) -> Part | None:
        """In the lane's thread: the frame that it takes becomes a part, unless it is too old to say anything, or its
        camera was lost since.
        """
        if frame.sequence < self._floor:
            self.drops["camera lost"] += 1
            return None
        if time.monotonic_ns() - frame.captured_monotonic_ns > self.timeout_s * 1e9:
            self.drops["too old"] += 1
            return None
        return self._open(frame.sequence, frame)

    def _open(self, sequence: int, frame: Frame | None = None) -> Part:
        self.triggers += 1
        return self._register.open(self.name, sequence, frame=frame, deadline_ms=self.source.deadline_ms)

    def _enqueue(self, part: Part) -> None:
        if not self._go.is_set():
            self._unknown(part, NOT_READY)
        elif not self._lane.enter(part, self.intake):
            self._unknown(part, f"overrun: {self.source.queue} parts wait for their verdict already")

    def _without_picture(self, part: Part, lost: FrameLost) -> None:
        self._lane.pictures.unusable(self.name, str(lost))
        self._unknown(part, str(lost), lost.source)

    def _unknown(self, part: Part, reason: str, source: str | None = None) -> None:
        part.source = source or part.source
        self._register.settle_unknown(part, reason)


def _renumbered(frame: Frame, sequence: int) -> Frame:
    return frame if frame.sequence == sequence else replace(frame, sequence=sequence)
