"""The station: cameras, lanes, register, recorder and outputs joined. Every trigger gets exactly one verdict.

Threads: one a camera (grab and prepare), one a backend (infer and decide), the recorder, the archive, one an output,
and the watch, which sees to deadlines, hanging calls, triggers at an interval and the books. Knows no TOML.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from threading import Event, Lock

from segdec_edge.errors import CameraError, RecipeError
from segdec_edge.outputs.ledger import FREE_RUNNING
from segdec_edge.station.alarms import Alarm, Alarms
from segdec_edge.station.books import Balance, Books
from segdec_edge.station.changer import Change, Changer
from segdec_edge.station.events import CameraEvent, CameraState
from segdec_edge.station.feed import Feed
from segdec_edge.station.follow import Follower
from segdec_edge.station.grab import Around, Grab, Source
from segdec_edge.station.inspection import Inspector
from segdec_edge.station.judging import Judges, fault_of
from segdec_edge.station.lane import Lane
from segdec_edge.station.lane import Opener as JudgesOpener
from segdec_edge.station.outlet import Outlet
from segdec_edge.station.part import Part, new_run_id, part_id
from segdec_edge.station.recorder import Recorder
from segdec_edge.station.refit import Opener, refitted
from segdec_edge.station.register import Register, unjudged
from segdec_edge.station.setup import StationSource, Tuning
from segdec_edge.station.statistics import RunSummary, Statistics
from segdec_edge.station.stop import Stop
from segdec_edge.station.supervisor import Watch, guarded
from segdec_edge.station.triggered import TriggeredGrab
from segdec_edge.types import Camera, Label, Output, Verdict

__all__ = ["Station", "new_run_id", "part_id", "run_station"]

_log = logging.getLogger(__name__)
_POLL_S = 0.05
_CLOSE_S = 3.0
STOPPED = "the station stopped before its verdict"


class Station:
    """Made, then run() once. lanes: by name, what opens a warm backend with the inspectors of its cameras.

    outputs get each verdict at once, before the ledger. ready is set once every backend is warm and while the station
    runs. on_event is told of each change of a camera's state, in that camera's thread or the watch's.
    """

    def __init__(
        self,
        sources: Sequence[StationSource],
        lanes: Mapping[str, JudgesOpener],
        recorder: Recorder,
        *,
        run_id: str,
        alarms: Alarms | None = None,
        outputs: Mapping[str, Output] | None = None,
        statistics: Statistics | None = None,
        stop: Stop | None = None,
        tuning: Tuning | None = None,
        follower: Follower | None = None,
        on_event: Callable[[CameraEvent], None] = lambda event: None,
    ) -> None:
        self.run_id, self.alarms, self.ready = run_id, alarms or Alarms(), Event()
        self._recorder, self._stop, self._tuning = recorder, stop or Stop(), tuning or Tuning()
        self._statistics = statistics or Statistics(run_id)
        self._outlets = [Outlet(name, output, self.alarms) for name, output in (outputs or {}).items()]
        self._register = Register(run_id, [one.source.name for one in sources], self._issue, self._unknown)
        self._lanes = {name: self._lane(name, opens) for name, opens in lanes.items()}
        self._of_camera = {one.source.name: self._lanes[one.lane] for one in sources}
        self._grabs = {one.source.name: self._grab(one) for one in sources}
        self._feeds = {
            one.source.name: Feed(
                self._grabs[one.source.name], one.open_camera, self.alarms, self.ready, self._stopping, self._event
            )
            for one in sources
        }
        self._on_event = on_event
        self.follower = follower or Follower(self.alarms, recorder.note)
        for grab in self._grabs.values():
            if isinstance(grab, TriggeredGrab):
                grab.entered = self._entered
        self._changer: Changer | None = None
        self._issued, self._last_fault, self._issuing = Counter[str](), dict[str, str](), Lock()
        self._watch = self._make_watch()
        self.alarms.listen(self._note_alarm)

    def run(self, on_ready: Callable[[], None] = lambda: None) -> RunSummary:
        """Inspect until every camera has ended or a stop is wished for; then every verdict is durable.

        A stop drains what was triggered, within bounds. Raises what could not be opened at the start; later CameraError
        where a finite source failed, BackendError where a backend hangs and cannot be opened again, and OutputError
        where a row could not be recorded, each after all that was decided is recorded.
        """
        # The recorder inside: a second Ctrl-C while it drains must not tear it down.
        with self._stop.on_signals(), self._recorder:
            try:
                self._start()
                if self.ready.is_set():
                    on_ready()
                while not self._is_over():
                    time.sleep(_POLL_S)
            finally:
                self._finish()
        if (error := self._error()) is not None:
            raise error
        return self.summary()

    def trigger(self, camera: str, given_id: str | int | None = None, *, encoder: int | None = None) -> str:
        """Take a picture of the part that is there now; its part id. For any thread; it never blocks.

        What cannot be done, and an id or a count that cannot be used, is that part's UNKNOWN. Raises CameraError on a
        camera that is not triggered by software.
        """
        grab = self._grabs.get(camera) if isinstance(camera, str) else None
        if not isinstance(grab, TriggeredGrab):
            known = ", ".join(name for name, one in self._grabs.items() if isinstance(one, TriggeredGrab)) or "none"
            raise CameraError(f"{camera!a} is no camera triggered by software, wanted one of: {known}. Correct it.")
        return grab.trigger(given_id, encoder)

    def serve_recipes(self, changer: Changer) -> None:
        """Let change_recipe ask this one. Before run()."""
        self._changer = changer

    def change_recipe(self, name: str) -> Change:
        """Begin to load another recipe beside the running one; swapped in for every backend once it is ready for all.

        For any thread; it never blocks. Raises RecipeError where the station's file has no recipes.
        """
        if not isinstance(name, str):
            raise RecipeError(f"recipe {name!a}: wanted the name of one of [recipes]. Correct what the line sends.")
        if self._changer is None:
            raise RecipeError(f"recipe {name!a}: this station has none to change to. Add [recipes] to its file.")
        return self._changer.request(name)

    def refit(self, openers: Mapping[str, Opener]) -> AbstractContextManager[Callable[[], None]]:
        """Cameras, by name, opened otherwise: held once all are open, until the function that it gives is called.

        Where it is not called, each is opened as it was. Raises RecipeError where one cannot be opened.
        """
        return refitted(self._feeds, openers)

    def summary(self) -> RunSummary:
        """The figures as they are now."""
        dropped: Counter[str] = Counter()
        for grab in self._grabs.values():
            dropped.update(grab.drops)
        return self._statistics.summary(
            self._recorder.archive_failures,
            late=sum(self._register.counts(camera).late for camera in self._grabs),
            dropped=dropped,
            record=self._recorder.latency,
        )

    def states(self) -> dict[str, CameraState]:
        """The state of each camera."""
        return {name: feed.state for name, feed in self._feeds.items()}

    def lane(self, name: str = "backend") -> Lane:
        """A lane by its name, to swap what it judges with."""
        return self._lanes[name]

    @property
    def total(self) -> int | None:
        """How many triggers there will be, where every camera says so."""
        totals = [feed.total for feed in self._feeds.values()]
        return sum(total for total in totals if total is not None) if None not in totals else None

    def _lane(self, name: str, opens: JudgesOpener) -> Lane:
        tuning = self._tuning
        return Lane(
            opens,
            self._register,
            self.alarms,
            name=name,
            hang_s=tuning.hang_s,
            batch_ms=tuning.batch_ms,
            reopens=tuning.reopens,
        )

    def _grab(self, one: StationSource) -> Grab:
        lane, open_parts = self._of_camera[one.source.name], self._register.open_parts
        wait = partial(self._recorder.wait_for_room, pending=open_parts)
        around = Around(self._register, lane, self.alarms, self.ready, wait)
        if one.source.trigger == "software":
            return TriggeredGrab(one.source, around, one.names)
        return Grab(one.source, around)

    def _make_watch(self) -> Watch:
        triggered = [grab.check for grab in self._grabs.values() if isinstance(grab, TriggeredGrab)]
        hanging = [one.check for one in self._workers()]
        books = Books(self._balances, self.alarms)
        watch = Watch([self._register.expire, *triggered, *hanging, books.check], self._watch_failed)
        self._register.on_deadline = watch.wake_by
        return watch

    def _start(self) -> None:
        for name, grab in self._grabs.items():
            if grab.source.policy == "latest":
                self._recorder.note(FREE_RUNNING, "the newest frames only", name)
        for outlet in self._outlets:
            outlet.start()
        self._watch.start()
        for one in self._workers():
            one.start()
        while not all(one.opened.is_set() for one in self._workers()):
            if self._stop.requested or self._error() is not None:
                return
            time.sleep(_POLL_S / 25)
        if self._error() is None:
            self.ready.set()
            _log.info("ready: %s", ", ".join(f"camera {name} {state.value}" for name, state in self.states().items()))

    def _error(self) -> Exception | None:
        """What ends the station with an error, the cameras' first."""
        errors = [one.error for one in self._workers()]
        return next((error for error in errors if error is not None), None)

    def _workers(self) -> list[Feed | Lane]:
        return [*self._feeds.values(), *self._lanes.values()]

    def _is_over(self) -> bool:
        return (
            self._stopping()
            or not self.ready.is_set()
            or all(feed.ended for feed in self._feeds.values())
            or any(lane.error is not None for lane in self._lanes.values())
        )

    def _stopping(self) -> bool:
        return self._stop.requested or self._recorder.must_stop

    def _finish(self) -> None:
        """Drain what was triggered, then end every thread; none may hold this up."""
        if self._changer is not None:
            self._changer.close(_CLOSE_S)
        for feed in self._feeds.values():
            feed.stop()
        until = time.monotonic() + max(grab.timeout_s for grab in self._grabs.values()) + _CLOSE_S
        for feed in self._feeds.values():
            feed.join(max(0.0, until - time.monotonic()))
        if all(lane.error is None for lane in self._lanes.values()):
            self._register.wait_until_empty(self._tuning.drain_s)
        self._register.settle_all_unknown(STOPPED)
        self.ready.clear()
        for lane in self._lanes.values():
            lane.stop()
        for lane in self._lanes.values():
            lane.join(_CLOSE_S)
        self._watch.stop(_CLOSE_S)
        for outlet in self._outlets:
            outlet.close(_CLOSE_S)

    def _unknown(self, part: Part, reason: str) -> Verdict:
        judges, frame = part.judges or self._of_camera[part.camera].judges, part.frame
        return unjudged(part, frame, reason, None if judges is None else judges.inspectors[part.camera])

    def _issue(self, part: Part, verdict: Verdict) -> None:
        """The only way out of a verdict: outputs first, for the line waits for them."""
        began_ns, frame = time.monotonic_ns(), part.frame
        for outlet in self._outlets:
            outlet.put(verdict, frame)
        self._recorder.put(verdict, frame)
        guarded(lambda: self.follower.decided(part, verdict), self._follow_failed)  # the verdict is out by now
        part.stage_ms["issue"] = (time.monotonic_ns() - began_ns) / 1e6
        self._statistics.add(verdict, lost=frame is None, stage_ms=part.stage_ms)
        with self._issuing:
            self._issued[part.camera] += 1
            fault = fault_of(verdict) if verdict.label is Label.UNKNOWN else None
            new = fault is not None and fault != self._last_fault.get(part.camera)
            if fault is not None:
                self._last_fault[part.camera] = fault
        if new:  # the same fault at 60 Hz is one line
            _log.warning("part %s is UNKNOWN: %s", verdict.part_id, verdict.reason)

    def _entered(self, part: Part, reading: int | None) -> None:
        guarded(lambda: self.follower.entered(part, reading), self._follow_failed)

    def _follow_failed(self, error: Exception) -> None:
        self.alarms.raised("follow", f"what follows a verdict failed: {type(error).__name__}: {error}", error)

    def _balances(self) -> list[Balance]:
        balances = []
        for name, grab in self._grabs.items():
            counts = self._register.counts(name)
            balances.append(Balance(name, grab.triggers, counts.opened, "triggers and parts"))
            balances.append(Balance(name, counts.settled, self._issued[name], "decided and told"))
        rows = self._recorder.recorded + self._recorder.waiting + self._recorder.lost
        balances.append(Balance("", self._issued.total(), rows, "told and recorded"))
        return balances

    def _event(self, event: CameraEvent) -> None:
        if event.state in (CameraState.LOST, CameraState.RUNNING, CameraState.ENDED):
            after = f"after {event.seconds:.1f} s {event.before.value}"
            self._recorder.note("camera", f"{event.state.value} {after} {event.reason}".rstrip(), event.camera)
        if event.state is CameraState.LOST:
            self.follower.interrupted(event.camera)
        self._on_event(event)

    def _note_alarm(self, alarm: Alarm) -> None:
        self._recorder.note("alarm" if alarm.active else "alarm-over", f"{alarm.name}: {alarm.message}")

    def _watch_failed(self, error: Exception) -> None:
        self.alarms.raised("watch", f"{type(error).__name__}: {error}", error)


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
    """Run a station of one camera that is open already, every part of which is judged; raises as Station.run does.

    Neither the camera nor the backend is opened again where it is lost, and the backend is left open.
    """
    source = Source("camera", timeout_s=timeout_s, finite=True)
    judges = Judges(inspector.backend, {"camera": inspector}, owned=False)
    station = Station(
        [StationSource(source, lambda: camera)],
        {"backend": lambda: judges},
        recorder,
        run_id=run_id,
        statistics=statistics,
        stop=stop,
        tuning=Tuning(reopens=False),
    )
    return station.run()
