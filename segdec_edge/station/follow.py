"""What follows the verdicts: the event of a free-running camera, drift, and the queue of parts to the rejecter.

Changes no verdict. Knows no camera, no file and no output.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from threading import Lock

from segdec_edge.config.drift import DriftConfig
from segdec_edge.config.rules import DebounceConfig
from segdec_edge.pictures import light_of
from segdec_edge.station.alarms import Alarms
from segdec_edge.station.debounce import Debounce
from segdec_edge.station.drift import DriftNote, DriftWatch, watch_for
from segdec_edge.station.judging import AnyJudges
from segdec_edge.station.part import Part
from segdec_edge.station.reject import RejectFifo
from segdec_edge.types import Label, Verdict

Note = Callable[[str, str, str], None]
"""(kind, text, camera): a line for the ledger's events."""


class Follower:
    """Any thread may call. drift, debounce, reject: None for none of it; free: names of the free-running cameras, each
    of which has its own debounce. note is told of each change of an event, and of what drift cannot watch.
    """

    def __init__(
        self,
        alarms: Alarms,
        note: Note,
        *,
        drift: DriftConfig | None = None,
        debounce: DebounceConfig | None = None,
        free: Collection[str] = (),
        reject: RejectFifo | None = None,
    ) -> None:
        self.reject = reject
        self._alarms, self._note, self._drift = alarms, note, drift
        self._lock = Lock()
        self._debounces: dict[str, Debounce] = {}
        self._since_ns: dict[str, int] = {}
        self._seen_ns: dict[str, int] = {}
        self._gap_ns = 0
        if debounce is not None:
            self._gap_ns = round(debounce.gap_s * 1e9)
            numbers = debounce.frames, debounce.defects, debounce.release
            self._debounces = {name: Debounce(*numbers) for name in free}
        self._watches: dict[str, tuple[AnyJudges, DriftWatch | None]] = {}
        self._drifting: dict[str, set[str]] = {}

    def entered(self, part: Part, reading: int | None) -> None:
        """A part was triggered while the line's counter showed reading."""
        if self.reject is not None:
            self.reject.enter(part.part_id, reading)

    def decided(self, part: Part, verdict: Verdict) -> None:
        """A part has its verdict; its picture is still there."""
        if self.reject is not None:
            self.reject.verdict(part.part_id, verdict.label)
        with self._lock:
            watch = self._watch_of(part)
            self._debounced(part, verdict.label)
            # A second look, after the one for contrast: 10 µs for 512 × 512, too little to carry it along.
            if watch is not None and part.prepared is not None:
                for note in watch.observe(verdict.score, light_of(part.prepared)):
                    self._drifted(part.camera, note)

    def event(self, camera: str) -> Label | None:
        """What the last frames of a free-running camera say together; None without [debounce]. UNKNOWN also where the
        last one that was looked at is too old to say anything of what is there now.
        """
        one = self._debounces.get(camera)
        if one is None:
            return None
        return Label.UNKNOWN if self._gap_s(camera, time.monotonic_ns()) is not None else one.label

    def interrupted(self, camera: str) -> None:
        """The row of frames broke: the camera was lost. Frames from before, which may still wait, count no more."""
        with self._lock:
            self._since_ns[camera] = time.monotonic_ns()
            self._reset(camera)

    def _watch_of(self, part: Part) -> DriftWatch | None:
        judges = part.judges
        if judges is None:
            return None
        known = self._watches.get(part.camera)
        if known is not None and known[0] is judges:
            return known[1]
        if known is not None:
            self._reset(part.camera)
            for name in self._drifting.pop(part.camera, ()):  # only the watch that raised it could have cleared it
                self._alarms.cleared(name, "another backend judges, watched from its first part on")
        watch = self._new_watch(part.camera, judges)
        self._watches[part.camera] = judges, watch
        return watch

    def _new_watch(self, camera: str, judges: AnyJudges) -> DriftWatch | None:
        if self._drift is None or judges.bundle is None:
            return None
        model = judges.backend.spec.sha256
        watch, missing = watch_for(
            judges.profile, self._drift, bundle=judges.bundle, model_sha256=model, camera=camera, recipe=judges.recipe
        )
        if missing:
            self._note("drift", missing, camera)
        return watch

    def _drifted(self, camera: str, note: DriftNote) -> None:
        drifting = self._drifting.setdefault(camera, set())
        if note.raised:
            drifting.add(note.name)
            self._alarms.raised(note.name, note.message)
        else:
            drifting.discard(note.name)
            self._alarms.cleared(note.name, note.message)

    def _debounced(self, part: Part, label: Label) -> None:
        one = self._debounces.get(part.camera)
        if one is None or part.opened_ns < self._since_ns.get(part.camera, 0):
            return
        if (gap_s := self._gap_s(part.camera, part.opened_ns)) is not None:
            if one.label is not Label.UNKNOWN:
                self._note("event", f"UNKNOWN: no frame was looked at for {gap_s:.1f} s", part.camera)
            one.reset()
        self._seen_ns[part.camera] = max(part.opened_ns, self._seen_ns.get(part.camera, 0))
        event = one.add(label)
        if event.changed:
            self._note("event", f"{event.label.value}: {event.bad} of the last {event.seen} frames not OK", part.camera)

    def _gap_s(self, camera: str, now_ns: int) -> float | None:
        """How long ago the last frame of the window came, where that is too long."""
        gap_ns = now_ns - self._seen_ns.get(camera, now_ns)
        return gap_ns / 1e9 if gap_ns > self._gap_ns else None

    def _reset(self, camera: str) -> None:
        if camera in self._debounces:
            self._debounces[camera].reset()
