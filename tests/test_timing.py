"""The intervals hold what they should on samples with a known truth, also where the machine drifts."""

from __future__ import annotations

import hashlib
import threading
import time

import numpy as np
import pytest

from segdec_edge.timing import (
    CALLS,
    COLD,
    Floats,
    Sitting,
    Visit,
    cluster_error,
    drift_flag,
    outlier_flag,
    quantile,
    ratio_interval,
    restless_flag,
    settled,
    sit_down,
    stage_of,
    student,
)

SITTINGS, ROUNDS = 6, 8


def drift(rng: np.random.Generator, deviation: float, memory: float, count: int) -> Floats:
    """An autoregressive walk of that deviation; memory: the correlation from one round to the next."""
    steps = rng.normal(0, deviation * np.sqrt(1 - memory**2), count)
    found = np.empty(count)
    found[0] = rng.normal(0, deviation)
    for index in range(1, count):
        found[index] = memory * found[index - 1] + steps[index]
    return found


def made(
    rng: np.random.Generator, common: Floats, *, layout: float, own: float, base_ms: float, slow_turns: float = 0.0
) -> Floats:
    """Times of one form, the calls of a turn in a row: the machine's drift, a drift of its own, a state that lasts a
    turn (with that chance half as long again), noise and outliers of each call, and another speed a sitting."""
    turns = common + drift(rng, own, 0.7, SITTINGS * ROUNDS) + rng.normal(0, own, SITTINGS * ROUNDS)
    turns = turns + np.where(rng.random(len(turns)) < slow_turns, 0.4, 0)
    count = len(turns) * CALLS
    noise = rng.normal(0, 0.03, count) + np.where(rng.random(count) < 0.05, rng.exponential(0.5, count), 0)
    lying = np.repeat(rng.normal(0, layout, SITTINGS), ROUNDS * CALLS)
    return (base_ms * np.exp(np.repeat(turns, CALLS) + noise + lying)).reshape(SITTINGS, -1)


@pytest.mark.parametrize("truth", [1.0, 2.5])
@pytest.mark.parametrize(
    ("machine", "layout", "own", "width"),
    [(0.02, 0.0, 0.0, 0.035), (0.02, 0.01, 0.02, 0.075), (0.1, 0.01, 0.0, 0.065), (0.1, 0.01, 0.02, 0.085)],
)
def test_nineteen_of_twenty_intervals_hold_the_true_ratio(
    truth: float, machine: float, layout: float, own: float, width: float
) -> None:
    rng, runs, held, widths = np.random.default_rng(7), 200, 0, []
    for index in range(runs):
        common = drift(rng, machine, 0.98, SITTINGS * ROUNDS)
        slow = made(rng, common, layout=layout, own=own, base_ms=10 * truth)
        fast = made(rng, common, layout=layout, own=own, base_ms=10)
        found = ratio_interval(slow, fast, seed=index)
        held += found.holds(truth)
        widths.append(np.log((found.high or 0) / (found.low or 1)))
    # 0.95 of 200 is 190; 183 is three standard deviations below. Where all forms drift by a tenth, nearly all hold.
    assert held >= 183
    assert np.median(widths) < width  # an interval that always holds says nothing


def test_the_ratio_is_that_of_the_medians_also_where_one_form_has_two_speeds() -> None:
    rng, runs, steady = np.random.default_rng(11), 100, np.zeros(SITTINGS * ROUNDS)
    slow = [made(rng, steady, layout=0.01, own=0.0, base_ms=20, slow_turns=0.3) for _ in range(runs)]
    fast = [made(rng, steady, layout=0.01, own=0.0, base_ms=10) for _ in range(runs)]
    truth = quantile(np.concatenate(slow), 0.5) / quantile(np.concatenate(fast), 0.5)
    found = [ratio_interval(a, b, seed=index) for index, (a, b) in enumerate(zip(slow, fast, strict=True))]
    assert found[0].ratio == quantile(slow[0], 0.5) / quantile(fast[0], 0.5)
    assert sum(one.holds(truth) for one in found) >= 88  # 95 less three standard deviations


def test_a_difference_of_a_tenth_is_seen_through_a_drift_of_a_third() -> None:
    rng = np.random.default_rng(3)
    common = np.linspace(0, 0.3, SITTINGS * ROUNDS)
    slow = made(rng, common, layout=0.005, own=0.0, base_ms=11)
    fast = made(rng, common, layout=0.005, own=0.0, base_ms=10)
    found = ratio_interval(slow, fast)
    assert found.low is not None and found.low > 1
    assert not found.holds(1.0)


def test_one_sitting_tells_no_interval() -> None:
    one = np.full((1, 20), 5.0)
    assert cluster_error(np.log(one)) is None
    assert ratio_interval(one, one / 2).low is None
    assert ratio_interval(one, one / 2).ratio == pytest.approx(2)


def test_a_quantile_is_a_sample_that_happened() -> None:
    samples = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 100.0]])
    assert quantile(samples, 0.5) == 4.0
    assert quantile(samples, 0.99) == 100.0


def test_students_t_ends_in_the_normals() -> None:
    assert student(1) > student(5) > student(29) > student(60) > 1.96


def test_everybody_has_a_turn_in_every_round_in_an_order_that_the_seed_tells() -> None:
    def sitting(seed: int) -> tuple[Sitting[str], list[tuple[str, int]]]:
        ran: list[tuple[str, int]] = []

        def turn(name: str):  # type: ignore[no-untyped-def]
            def run(index: int) -> dict[str, float]:
                ran.append((name, index))
                return {"infer": float(index)}

            return run

        turns = {name: turn(name) for name in "abc"}
        visit = Visit(untimed=1, calls=2)
        return sit_down(turns, 20, np.random.default_rng(seed), visit=visit, warm_up=2, first_round=40), ran

    found, ran = sitting(0)
    assert ran[:6] == [(name, index) for name in "abc" for index in (120, 121)]
    assert [name for name, _ in ran[6::3]] == [name for drawn in found.order for name in drawn]
    assert all(len({name for name, _ in ran[place : place + 3]}) == 1 for place in range(6, len(ran), 3))
    assert all(sorted(drawn) == ["a", "b", "c"] for drawn in found.order)
    assert len(set(found.order)) > 3
    # The first call of each turn is not among the samples.
    timed = [float(index) for index in range(120, 180) if index % 3]
    assert stage_of([found], "b", "infer").tolist() == [timed]
    assert sitting(0)[0].order == found.order != sitting(1)[0].order


def test_a_machine_that_slows_down_is_told_and_a_steady_one_is_not() -> None:
    rng = np.random.default_rng(0)
    steady = {name: 10 * np.exp(rng.normal(0, 0.02, (6, 8))) for name in "ab"}
    slowing = {name: found * np.linspace(1, 1.2, 48).reshape(6, 8) for name, found in steady.items()}
    assert drift_flag(steady) == ""
    assert "slower" in drift_flag(slowing)
    assert "faster" in drift_flag({name: 100 / found for name, found in slowing.items()})
    # One form alone that slows down is no drift of the machine's.
    assert drift_flag({**dict.fromkeys("bcdefg", steady["b"]), "a": slowing["a"]}) == ""


def test_outliers_are_told_where_they_are_more_than_one_in_twenty() -> None:
    calm = np.full((6, 8), 10.0)
    calm[0, 0] = 40
    assert outlier_flag(calm) == ""
    calm[:, 0] = 40
    assert "12 %" in outlier_flag(calm)


def test_a_cold_turn_times_its_first_call() -> None:
    found = sit_down({"a": lambda index: {"infer": float(index)}}, 3, np.random.default_rng(0), visit=COLD)
    assert stage_of([found], "a", "infer").tolist() == [[0.0, 1.0, 2.0]]


def worker(iterations: int) -> threading.Thread:
    """Works without the interpreter's lock, as a runtime's threads do, and is well under way."""
    work = threading.Thread(target=hashlib.pbkdf2_hmac, args=("sha256", b"", b"", iterations))
    work.start()
    time.sleep(0.05)
    return work


def test_a_turn_waits_until_the_threads_before_it_sleep() -> None:
    short = worker(300_000)
    assert settled(patience_s=60)
    assert not short.is_alive()
    long = worker(3_000_000)
    assert not settled(patience_s=0.01)
    assert long.is_alive()
    long.join()


def test_threads_that_never_sleep_are_told() -> None:
    order = (("a", "b"),) * 10
    assert restless_flag([Sitting({}, order, restless=1)]) == ""
    assert "15 %" in restless_flag([Sitting({}, order, restless=3)])
