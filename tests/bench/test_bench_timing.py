"""The intervals hold what they should on samples with a known truth, also where the machine drifts."""

from __future__ import annotations

import numpy as np
import pytest

from segdec_edge.bench.timing import (
    Floats,
    Sitting,
    cluster_error,
    drift_flag,
    outlier_flag,
    quantile,
    ratio_interval,
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


def made(rng: np.random.Generator, common: Floats, *, layout: float, own: float, base_ms: float) -> Floats:
    """Times of one form: the machine's drift, a drift of its own, noise, outliers, and another speed a sitting."""
    count = SITTINGS * ROUNDS
    noise = rng.normal(0, 0.03, count) + np.where(rng.random(count) < 0.05, rng.exponential(0.5, count), 0)
    settled = np.repeat(rng.normal(0, layout, SITTINGS), ROUNDS)
    return (base_ms * np.exp(common + drift(rng, own, 0.7, count) + noise + settled)).reshape(SITTINGS, ROUNDS)


@pytest.mark.parametrize("truth", [1.0, 2.5])
@pytest.mark.parametrize(("layout", "own"), [(0.0, 0.0), (0.01, 0.0), (0.01, 0.02)])
def test_nineteen_of_twenty_intervals_hold_the_true_ratio(truth: float, layout: float, own: float) -> None:
    rng, runs, held = np.random.default_rng(7), 200, 0
    for index in range(runs):
        common = drift(rng, 0.1, 0.98, SITTINGS * ROUNDS)
        slow = made(rng, common, layout=layout, own=own, base_ms=10 * truth)
        fast = made(rng, common, layout=layout, own=own, base_ms=10)
        held += ratio_interval(slow, fast, seed=index).holds(truth)
    # 0.95 of 200 is 190; 183 is three standard deviations below, all 200 would be an interval that says nothing
    assert 183 <= held < runs


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
        return sit_down(turns, 20, np.random.default_rng(seed), warm_up=2, first_round=40), ran

    found, ran = sitting(0)
    assert ran[:6] == [(name, index) for name in "abc" for index in (40, 41)]
    assert [name for name, _ in ran[6:]] == [name for drawn in found.order for name in drawn]
    assert all(sorted(drawn) == ["a", "b", "c"] for drawn in found.order)
    assert len(set(found.order)) > 3
    assert stage_of([found], "b", "infer").tolist() == [[float(index) for index in range(40, 60)]]
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
