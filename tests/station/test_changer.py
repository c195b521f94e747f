"""Recipes changed while parts come: loaded beside the running one, swapped in whole, or refused without a trace."""

from __future__ import annotations

import gc
import itertools
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from segdec_edge.bundle import Bundle, read_bundle, set_threshold
from segdec_edge.config.recipes import RecipeConfig
from segdec_edge.decision import Rule
from segdec_edge.errors import BackendError
from segdec_edge.station.alarms import Alarms
from segdec_edge.station.changer import Changer
from segdec_edge.station.inspection import Inspector
from segdec_edge.station.intake import Intake
from segdec_edge.station.lane import Lane
from segdec_edge.station.part import Part
from segdec_edge.station.recipe_lane import LaneRecipes
from segdec_edge.station.recipes import Loaded, Recipes
from segdec_edge.station.register import Register, unjudged
from segdec_edge.types import Backend, Verdict
from tests.fakes import FakeBackend, level
from tests.station.made_recipes import frame
from tests.station.scripted import wait_until


class Line:
    """Parts without end through a real lane, which judges by the recipe that is in office."""

    def __init__(self, recipes: Recipes, first: str) -> None:
        self.verdicts, self._stop = list[Verdict](), threading.Event()
        self.recipes = LaneRecipes(recipes, first)
        self.register = Register("run", ["camera"], lambda part, verdict: self.verdicts.append(verdict), self._unknown)
        self.lane = Lane(self.recipes.open, self.register, Alarms())
        self.intake = Intake(self.lane.changed, "lossless", 4, lambda frame: None)
        self.lane.serve(self.intake)
        self.recipes.bind(self.lane)
        self._thread = threading.Thread(target=self._feed, name="grab")

    def _unknown(self, part: Part, reason: str) -> Verdict:
        return unjudged(part, part.frame, reason, None)

    def _feed(self) -> None:
        for number in itertools.count():
            while not self.intake.wait_for_room(0.05) and not self._stop.is_set():
                pass
            if self._stop.is_set():
                return
            part = self.register.open("camera", number, frame=frame(number))
            assert self.lane.enter(part, self.intake)

    def see(self, more: int) -> None:
        """Wait for so many more verdicts."""
        wanted = len(self.verdicts) + more
        wait_until(lambda: len(self.verdicts) >= wanted)

    def __enter__(self) -> Line:
        self.lane.start()
        assert self.lane.opened.wait(20) and self.lane.error is None
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)
        self.register.wait_until_empty(20)
        self.lane.stop()
        self.lane.join(20)


class Fakes:
    """Recipes on FakeBackends: their hash and score are the recipe's number; the folder is a real, small bundle."""

    def __init__(self, bundle: Path, names: int = 5) -> None:
        self.made: list[FakeBackend] = []
        self.before: Callable[[], object] = lambda: None
        table = {f"r{number}": RecipeConfig(bundle=bundle, self_check=False) for number in range(names)}
        self.recipes = Recipes(table, self._inspectors, opener=self._open)

    def _open(self, bundle: Bundle, name: str) -> Backend:
        self.before()
        self.made.append(FakeBackend(level, spec=bundle.spec))
        return self.made[-1]

    def _inspectors(
        self, name: str, config: RecipeConfig, bundle: Bundle, backend: Backend, rule: Rule
    ) -> Mapping[str, Inspector]:
        number = int(name[1:])
        assert isinstance(backend, FakeBackend)
        backend.judge = lambda pixels: number / 100
        return {"camera": Inspector(backend, Rule(0.5 + number / 100), f"{number:064x}", recipe=name)}


def test_a_stream_under_a_hundred_swaps_loses_nothing_and_mixes_nothing(lid: Path) -> None:
    fakes = Fakes(lid)
    alarms: list[str] = []
    chance = random.Random(1)
    with Line(fakes.recipes, "r0") as line:
        changer = Changer([line.recipes], lambda name, message: alarms.append(message))
        for count in range(100):
            change = changer.request(f"r{chance.randrange(5)}" if count % 4 else "unheard")
            assert change.wait(10)
            assert (change.error is None) == bool(count % 4)
            time.sleep(chance.random() * 2e-3)
            line.see(2)
        changer.close()
    assert len(line.verdicts) > 200
    assert [verdict.sequence for verdict in line.verdicts] == list(range(len(line.verdicts)))
    for verdict in line.verdicts:
        number = int(verdict.recipe[1:])
        assert (verdict.bundle_sha256, verdict.threshold) == (f"{number:064x}", 0.5 + number / 100)
        assert verdict.score == pytest.approx(number / 100)
    assert len({verdict.recipe for verdict in line.verdicts}) == 5
    assert len(alarms) == 25 and all("goes on: recipe 'unheard' is unknown" in one for one in alarms)
    assert {one.closed for one in fakes.made} == {1}


def test_memory_stays_flat_over_two_hundred_swaps(lid: Path) -> None:
    fakes = Fakes(lid)
    with Line(fakes.recipes, "r0") as line:
        changer = Changer([line.recipes], lambda name, message: None)

        def swap(times: int) -> int:
            for count in range(times):
                assert changer.request(f"r{count % 5}").wait(10)
                line.see(1)
                fakes.made.clear()
            line.see(20)  # what was replaced is closed and let go by now
            line.verdicts.clear()
            gc.collect()
            return sum(type(one) in (FakeBackend, Loaded, Inspector) for one in gc.get_objects())

        first = swap(20)
        assert swap(200) == first
        assert threading.active_count() < 10


def test_real_bundles_are_swapped_under_load(recipes: Recipes, lid: Path) -> None:
    alarms: list[str] = []
    told: list[str] = []
    with Line(recipes, "lid") as line:
        changer = Changer(
            [line.recipes],
            lambda name, message: alarms.append(message),
            lambda loaded: told.extend(one.recipe for one in loaded),
        )
        for name in ("cup", "missing", "unchecked", "blind", "lid", "lid"):
            change = changer.request(name)
            assert change.wait(30)
            line.see(12)
        changer.close()
    assert told == ["cup", "unchecked", "lid", "lid"]
    assert [one.split(",")[0] for one in alarms] == ["recipe missing refused", "recipe blind refused"]
    assert "cup goes on" in alarms[0] and "unchecked goes on" in alarms[1]
    thresholds = {"lid": 0.5, "cup": 0.3, "unchecked": 0.5}
    assert {(one.recipe, one.threshold) for one in line.verdicts} == set(thresholds.items())
    assert all(verdict.score is not None for verdict in line.verdicts)


def test_a_second_wish_waits_its_turn_and_none_comes_after_the_end(lid: Path) -> None:
    go, alarms = threading.Event(), list[str]()
    fakes = Fakes(lid)
    with Line(fakes.recipes, "r0") as line:
        fakes.before = lambda: go.wait(10)
        changer = Changer([line.recipes], lambda name, message: alarms.append(message))
        first = changer.request("r1")
        assert changer.request("r1").error == "recipe r1 stays out: r1 is being loaded. Wait."
        closing = threading.Thread(target=changer.close)
        closing.start()
        wait_until(lambda: changer._closing)
        go.set()
        closing.join(10)
        assert first.error == "recipe r1 stays out: the station stops."
        assert (line.recipes.current().recipe, fakes.made[-1].closed) == ("r0", 1)
        assert changer.request("r1").error == "recipe r1 stays out: the station stops."
    assert len(alarms) == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_loading_leaves_the_old_one_running_and_is_told(lid: Path) -> None:
    fakes, alarms = Fakes(lid), list[str]()

    def broken() -> None:
        raise ZeroDivisionError

    with Line(fakes.recipes, "r0") as line:
        fakes.before = broken
        change = Changer([line.recipes], lambda name, message: alarms.append(message)).request("r1")
        assert change.wait(10)
        assert change.thread is not None
        change.thread.join(10)
        assert line.recipes.current().recipe == "r0"
    assert alarms == [change.error]
    assert change.error == (
        "recipe r1 refused, r0 goes on: its loading ended by a fault of its own (traceback in the log)."
    )


def test_failing_to_open_is_a_refusal(lid: Path) -> None:
    fakes = Fakes(lid)

    def failing() -> None:
        raise BackendError("no runtime\nhere")

    with Line(fakes.recipes, "r0") as line:
        fakes.before = failing
        change = Changer([line.recipes]).request("r1")
        assert change.wait(10)
    assert change.error == "recipe r1 refused, r0 goes on: no runtime here"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_follows_a_swap_may_fail_and_the_next_change_is_taken(lid: Path) -> None:
    """Else one bug in what is told of it would shut out every later recipe."""
    fakes, failures = Fakes(lid), iter([ZeroDivisionError()])

    def told(loaded: Sequence[Loaded]) -> None:
        for failure in failures:
            raise failure

    with Line(fakes.recipes, "r0") as line:
        changer = Changer([line.recipes], swapped=told)
        for name in ("r1", "r2"):
            change = changer.request(name)
            assert change.wait(10)
            assert (change.error, line.recipes.current().recipe) == (None, name)
            assert change.thread is not None
            change.thread.join(10)


@pytest.mark.parametrize("refusing", [0, 1])
def test_several_lanes_change_together_or_not_at_all(lid: Path, refusing: int) -> None:
    """Each has backends of its own: what one opened for a recipe that another refuses is closed again."""
    both, alarms = [Fakes(lid), Fakes(lid)], list[str]()

    def failing() -> None:
        raise BackendError("no memory for another one.")

    with Line(both[0].recipes, "r0") as left, Line(both[1].recipes, "r0") as right:
        changer = Changer([left.recipes, right.recipes], lambda name, message: alarms.append(message))
        both[refusing].before = failing
        refused = changer.request("r1")
        assert refused.wait(10)
        assert refused.error == "recipe r1 refused, r0 goes on: no memory for another one."
        for line in (left, right):
            line.see(5)
            assert line.recipes.current().recipe == "r0"
        both[refusing].before = lambda: None
        taken = changer.request("r2")
        assert taken.wait(10)
        assert [one.recipe for one in taken.loaded] == ["r2", "r2"]
        for line in (left, right):
            assert line.recipes.current().recipe == "r2"
            line.see(10)
        changer.close()
    assert alarms == [refused.error]
    for line, fakes in zip((left, right), both, strict=True):
        for verdict in line.verdicts:
            number = int(verdict.recipe[1:])
            assert (verdict.bundle_sha256, verdict.threshold) == (f"{number:064x}", 0.5 + number / 100)
            assert verdict.score == pytest.approx(number / 100)
        names = [verdict.recipe for verdict in line.verdicts]
        assert names == sorted(names) and set(names) == {"r0", "r2"}
        assert {one.closed for one in fakes.made} == {1}


def test_a_bundle_that_changes_between_two_lanes_is_swapped_in_nowhere(lid: Path) -> None:
    one, other = Fakes(lid), Fakes(lid)
    with Line(one.recipes, "r0") as left, Line(other.recipes, "r0") as right:
        made, read = len(one.made), read_bundle(lid).digest
        load = right.recipes.load

        def late(name: str) -> Loaded:
            set_threshold(lid, 0.4, "why")
            return load(name)

        right.recipes.load = late  # type: ignore[method-assign]
        change = Changer([left.recipes, right.recipes]).request("r1")
        assert change.wait(10)
        assert "was changed while it was opened for each camera" in (change.error or "")
        assert {line.recipes.current().bundle_digest for line in (left, right)} == {read}
        assert [backend.closed for backend in one.made[made:]] == [1]
