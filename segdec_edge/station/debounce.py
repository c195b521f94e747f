"""N of M for a free-running camera, whose frames show the same thing many times. Pure: no clock, no camera.

Not for triggered cameras: there a frame is a part, and its verdict must not depend on its neighbours
(config.rules.refuse_debounce). Verdicts are not changed: each frame keeps its own row; what this gives is the event.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from segdec_edge.types import Label


@dataclass(frozen=True)
class Event:
    """label: what the last frames say together; changed: the frame just added changed it; bad of seen frames."""

    label: Label
    changed: bool
    bad: int
    seen: int


class Debounce:
    """The event of one camera: DEFECT from when at least `defects` of the last `frames` are bad.

    Bad is every frame that is not OK: DEFECT, UNKNOWN, and a lost frame given as UNKNOWN. Hysteresis: once DEFECT, it
    stays until fewer than `release` (1 to `defects`, by default `defects`) of a full window are bad. Until the window
    is full the event is UNKNOWN, which the line rejects, unless `defects` bad ones were seen.

    reset() empties the window, for whatever breaks the row of frames: the camera was rebuilt, the bundle, the recipe or
    the rule changed, or no frame was looked at for long. It sees none of these: its owner does (follow.Follower). The
    event is UNKNOWN then until the window is full again, also where it was DEFECT: what stood there may have gone.
    """

    def __init__(self, frames: int, defects: int, release: int | None = None) -> None:
        release = defects if release is None else release
        if not 1 <= release <= defects <= frames:
            raise ValueError(f"release {release}, defects {defects}, frames {frames}: wanted 1 <= each <= the next")
        self._defects, self._release = defects, release
        self._bad: deque[bool] = deque(maxlen=frames)
        self._label = Label.UNKNOWN

    @property
    def label(self) -> Label:
        return self._label

    def add(self, label: Label) -> Event:
        """Take the next frame's label, in the order of the camera."""
        self._bad.append(label is not Label.OK)
        bad, before = sum(self._bad), self._label
        limit = self._release if before is Label.DEFECT else self._defects
        if bad >= limit:
            self._label = Label.DEFECT
        elif len(self._bad) == self._bad.maxlen:
            self._label = Label.OK
        return Event(self._label, self._label is not before, bad, len(self._bad))

    def reset(self) -> None:
        """Forget all frames; the event is UNKNOWN until the window is full again."""
        self._bad.clear()
        self._label = Label.UNKNOWN
