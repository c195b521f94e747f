"""When a frame of a live stream counts as fresh. Times in seconds, made up."""

from __future__ import annotations

import pytest

from segdec_edge.cameras.freshness import Gaps, StreamClock

START = 5000.0
RATE = 25


def settled(max_lag_s: float = 0.2) -> StreamClock:
    """A clock that has seen a second of an even stream, stream time 0 to 1, 10 ms after it was sent."""
    clock = StreamClock(max_lag_s)
    for number in range(RATE + 1):
        clock.judge(number / RATE, START + 0.01 + number / RATE)
    return clock


def arrives(clock: StreamClock, stream_s: float, late_s: float) -> str | None:
    return clock.judge(stream_s, START + 0.01 + stream_s + late_s)[1]


def test_even_stream_is_fresh_after_it_settled() -> None:
    clock = StreamClock(0.2)
    said = [clock.judge(n / RATE, START + n / RATE)[1] for n in range(RATE)]
    assert said[:13] == ["settling"] * 13
    assert said[13:] == [None] * 12


def test_what_was_buffered_while_opening_is_never_fresh() -> None:
    clock = StreamClock(0.2)
    burst = [clock.judge(n / RATE, START + 2.0 + n / 1000)[1] for n in range(50)]  # two seconds of frames in 50 ms
    assert set(burst) == {"settling"}
    live = [clock.judge(2.0 + n / RATE, START + 2.05 + n / RATE)[1] for n in range(20)]
    assert live[:12] == ["settling"] * 12
    assert live[-1] is None


def test_slow_burst_after_opening_is_never_fresh() -> None:
    """Held up over a thin line: two seconds of frames in one second, each later than it should be."""
    clock = StreamClock(0.2)
    said = [clock.judge(n / RATE, START + 2.0 + n / (2 * RATE))[1] for n in range(100)]
    assert set(said) == {"settling"}


@pytest.mark.parametrize("late_s", [0.25, 1.0, 30.0])
def test_frame_that_lay_in_a_buffer_is_stale(late_s: float) -> None:
    clock = settled()
    assert arrives(clock, 1.04, late_s) == "stale"
    assert arrives(clock, 1.04 + late_s, 0.0) is None


def test_lag_is_what_the_frame_was_held_up() -> None:
    lag_s, _ = settled().judge(1.04, START + 0.01 + 1.04 + 0.13)
    assert lag_s == pytest.approx(0.13, abs=1e-3)


def test_frame_given_before_is_repeated() -> None:
    clock = settled()
    assert arrives(clock, 1.04, 0.0) is None
    assert arrives(clock, 1.04, 0.01) == "repeated"
    assert arrives(clock, 0.96, 0.1) == "repeated"


def test_ordinary_drift_stays_fresh_for_hours() -> None:
    clock, drift = StreamClock(0.2), 1 + 100e-6
    said = [clock.judge(n / 2, START + n / 2 * drift)[1] for n in range(20000)]
    assert set(said[5:]) == {None}


def test_long_freeze_does_not_become_the_normal() -> None:
    clock = settled()
    said = {arrives(clock, 1.0 + n / RATE, 5.0) for n in range(1, 5 * RATE)}
    assert said == {"stale"}


@pytest.mark.parametrize("jump_s", [-10.0, 10.0])
def test_stream_whose_time_jumps_is_not_fresh_again(jump_s: float) -> None:
    clock = settled()
    clock.judge(1.04 + jump_s, START + 1.05)
    said = {clock.judge(1.04 + jump_s + n / RATE, START + 1.05 + n / RATE)[1] for n in range(1, 10)}
    assert None not in said


def test_stream_without_time_stamps_is_never_fresh() -> None:
    clock = StreamClock(0.2)
    assert None not in {clock.judge(0.0, START + n / RATE)[1] for n in range(100)}


def test_gaps_are_counted_once_the_rate_is_known() -> None:
    gaps = Gaps()
    assert [gaps.missing(n / RATE) for n in range(10)] == [0] * 10
    assert gaps.missing(10 / RATE + 0.012) == 0  # jitter
    assert gaps.missing(14 / RATE) == 3
    assert gaps.missing(15 / RATE) == 0
    assert gaps.missing(15 / RATE) == 0
