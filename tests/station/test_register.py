"""Exactly one verdict for each part, under any interleaving."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segdec_edge.station import register as module
from segdec_edge.station.part import Part
from segdec_edge.station.register import Register, unjudged
from segdec_edge.types import Frame, Label, Verdict


class Issued:
    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []

    def __call__(self, part: Part, verdict: Verdict) -> None:
        self.verdicts.append(verdict)


def made(*cameras: str) -> tuple[Register, Issued]:
    issued = Issued()
    names = cameras or ("camera",)
    return Register("run", names, issued, lambda part, reason: unjudged(part, part.frame, reason, None)), issued


def good(part: Part) -> Verdict:
    return Verdict("?", -1, Label.OK, 0.1, 0.5, "fine", 1, 2, 3.0, "ab", "x")


ACTS = st.lists(
    st.tuples(st.sampled_from(["open", "settle", "unknown", "expire", "all"]), st.integers(0, 30)), max_size=80
)


@settings(max_examples=200, deadline=None)
@given(acts=ACTS)
def test_any_order_of_acts_gives_each_part_one_verdict(acts: list[tuple[str, int]]) -> None:
    register, issued = made("a", "b")
    parts: list[Part] = []
    late = 0
    for act, number in acts:
        part = parts[number % len(parts)] if parts else None
        match act:
            case "open":
                parts.append(register.open("ab"[number % 2], len(parts), deadline_ms=1e6 if number % 3 else 0.0))
            case "settle" if part is not None:
                late += not register.settle(part, good(part))
            case "unknown" if part is not None:
                register.settle_unknown(part, "why")
            case "expire":
                register.expire(time.monotonic_ns())
            case "all":
                register.settle_all_unknown("over")
        counts = [register.counts(camera) for camera in "ab"]
        assert sum(one.opened for one in counts) == len(parts)
        assert sum(one.settled for one in counts) == len(issued.verdicts)
        assert sum(one.late for one in counts) == late
    register.settle_all_unknown("over")
    assert Counter(one.part_id for one in issued.verdicts) == Counter(one.part_id for one in parts)


@pytest.mark.parametrize("seed", range(4))
def test_racing_threads_give_each_part_one_verdict(seed: int) -> None:
    register, issued = made()
    lock, parts = threading.Lock(), []
    ended = threading.Event()

    def opens() -> None:
        for sequence in range(600):
            part = register.open("camera", sequence, deadline_ms=random.Random(sequence).choice([0.05, 1.0, 1e6]))
            with lock:
                parts.append(part)
        ended.set()

    def settles(own: int) -> None:
        chance = random.Random(100 * seed + own)
        while not ended.is_set():
            with lock:
                part = chance.choice(parts[-20:]) if parts else None
            if part is not None and chance.random() < 0.5:
                register.settle(part, good(part))
            elif part is not None:
                register.settle_unknown(part, "why")

    def expires() -> None:
        while not ended.is_set():
            register.expire(time.monotonic_ns())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work) for work in (opens, expires)]
        threads += [threading.Thread(target=settles, args=(own,)) for own in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    register.settle_all_unknown("over")
    assert sorted(one.part_id for one in issued.verdicts) == [f"run-{number:06d}" for number in range(600)]


def test_verdict_carries_the_part_s_own_names() -> None:
    register, issued = made("a", "b")
    part = register.open("b", 7, given_id="K-4711")
    register.settle(part, good(part))
    (verdict,) = issued.verdicts
    assert (verdict.part_id, verdict.sequence, verdict.camera, verdict.given_id) == ("run-b-000007", 7, "b", "K-4711")
    assert verdict.label is Label.OK


def test_deadline_counts_from_the_capture_and_is_told_in_advance() -> None:
    register, issued = made()
    told: list[int] = []
    register.on_deadline = told.append
    captured_ns = time.monotonic_ns() - 40_000_000
    part = register.open("camera", 0, frame=Frame(np.zeros((4, 4), np.uint8), 0, 1, captured_ns, "x"), deadline_ms=50.0)
    assert told == [captured_ns + 50_000_000] == [part.deadline_ns]
    assert register.expire(part.deadline_ns - 1) == part.deadline_ns
    assert not issued.verdicts
    assert register.expire(part.deadline_ns) is None
    assert issued.verdicts[0].reason == "late: no verdict within 50 ms"
    assert issued.verdicts[0].label is Label.UNKNOWN


def test_no_part_waits_for_ever() -> None:
    register, issued = made()
    part = register.open("camera", 0)
    register.expire(part.opened_ns + round(module.LAST_RESORT_MS * 1e6))
    assert [one.label for one in issued.verdicts] == [Label.UNKNOWN]


def test_settled_part_holds_no_picture() -> None:
    register, _ = made()
    part = register.open("camera", 0, frame=Frame(np.zeros((4, 4), np.uint8), 0, 1, 1, "x"))
    part.prepared = np.zeros((4, 4, 1), np.uint8)
    register.settle(part, good(part))
    assert part.frame is None
    assert part.prepared is None


def test_numbers_never_come_twice() -> None:
    register, _ = made()
    register.open("camera", 5)
    for sequence in (5, 4):
        with pytest.raises(ValueError, match="after part 5"):
            register.open("camera", sequence)


def test_waiting_for_the_last_verdict() -> None:
    register, _ = made()
    assert register.wait_until_empty(0.0)
    part = register.open("camera", 0)
    assert not register.wait_until_empty(0.01)
    threading.Timer(0.05, lambda: register.settle(part, good(part))).start()
    assert register.wait_until_empty(5.0)
