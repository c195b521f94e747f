"""Times taken in turns, and what may be said of them. Knows no backend: a turn is a function that gives milliseconds.

Why this way. A machine drifts (clocks, temperature, neighbours), so every form is timed in every round, in an order
shuffled anew each round: what drifts hits all alike. A process also settles: where a model's weights and buffers happen
to lie can make one of two equal models steadily faster for as long as it is open. So everything is opened anew several
times, in sittings. Rounds of one sitting are no independent samples, sittings nearly are: an interval resamples whole
sittings (a cluster bootstrap), which needs no guess of how long a drift lasts.

What a turn is. On a line the same model runs part after part, so a turn is some calls in a row of which the first is
not timed: it finds the caches full of the neighbour's data. Before it the turn waits until no thread of this process
works any more: onnxruntime's workers spin for some 30 ms of processor time after each call, GNU OpenMP's for some 8 ms,
and whoever runs meanwhile has a core less. (In turns of one timed call without a wait, a network that takes 19.7 ms
alone took 32.8 ms.) A cold turn asks the other question: its only call is the first one, timed.

Sources: Kalibera & Jones 2013 (repetition at the level where the variation is), Mytkowicz et al. 2009 (layout), Field &
Welsh 2007 (cluster bootstrap), Hesterberg 2015 (its correction for few clusters).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Key = TypeVar("Key", bound=Hashable)
Times = Mapping[str, float]
"""Milliseconds by stage; the same stages every time."""
Turn = Callable[[int], Times]
"""Run once, on the pictures of that number."""
Floats = NDArray[np.float64]

LEVEL = 0.95
CALLS = 3
RESAMPLES = 1000
DRIFT = 0.05
OUTLIER = 1.5
_OUTLIER_SHARE = 0.05
_LOOK_S, _PATIENCE_S = 0.002, 0.5


@dataclass(frozen=True)
class Visit:
    """What happens when a form's turn comes: so many calls that are not timed, then so many that are.

    settle: wait before, until the threads of the form before sleep.
    """

    untimed: int = 1
    calls: int = CALLS
    settle: bool = True

    @property
    def length(self) -> int:
        return self.untimed + self.calls


WARM, COLD = Visit(), Visit(untimed=0, calls=1)


@dataclass(frozen=True)
class Sitting(Generic[Key]):
    """samples[key]: one Times a timed call; order: who ran when, by round; restless: turns before which threads of
    this process went on working however long was waited."""

    samples: Mapping[Key, tuple[Times, ...]]
    order: tuple[tuple[Key, ...], ...]
    restless: int = 0


@dataclass(frozen=True)
class Interval:
    """A ratio with its 95 % interval; low and high None where there is one sitting only."""

    ratio: float
    low: float | None
    high: float | None

    def holds(self, value: float) -> bool:
        return self.low is not None and self.high is not None and self.low <= value <= self.high


def sit_down(
    turns: Mapping[Key, Turn],
    rounds: int,
    rng: np.random.Generator,
    *,
    visit: Visit = WARM,
    warm_up: int = 2,
    first_round: int = 0,
    done: Callable[[], None] | None = None,
) -> Sitting[Key]:
    """Every form's turn once a round, in an order drawn anew each round; warm_up untimed runs of each first.

    first_round: the number of the first round, for the pictures. Raises what a turn raises.
    """
    keys = list(turns)
    for turn in turns.values():
        for index in range(warm_up):
            turn(first_round * visit.length + index)
    samples: dict[Key, list[Times]] = {key: [] for key in keys}
    order, restless = [], 0
    for number in range(first_round, first_round + rounds):
        drawn = [keys[place] for place in rng.permutation(len(keys))]
        for key in drawn:
            restless += visit.settle and not settled()
            taken = [turns[key](number * visit.length + call) for call in range(visit.length)]
            samples[key].extend(taken[visit.untimed :])
            if done is not None:
                done()
        order.append(tuple(drawn))
    return Sitting({key: tuple(found) for key, found in samples.items()}, tuple(order), restless)


def settled(patience_s: float = _PATIENCE_S) -> bool:
    """Wait until no other thread of this process runs or wants to; False where one still does after so long.

    By the threads' states and not by used time: on a busy core a thread that spins may get no time for a while.
    """
    end, own = time.monotonic() + patience_s, str(threading.get_native_id())
    while any(_runs(task) for task in Path("/proc/self/task").iterdir() if task.name != own):
        if time.monotonic() > end:
            return False
        time.sleep(_LOOK_S)
    return True


def _runs(task: Path) -> bool:
    try:
        return (task / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "R"
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return False


def stage_of(sittings: Sequence[Sitting[Key]], key: Key, stage: str) -> Floats:
    """Milliseconds of one stage, (sittings, timed calls)."""
    return np.array([[one[stage] for one in sitting.samples[key]] for sitting in sittings], np.float64)


def quantile(samples: Floats, share: float) -> float:
    """The nearest sample at or above: no interpolation makes a p99 that never happened."""
    return float(np.quantile(samples, share, method="higher"))


def ratio_interval(slower: Floats, faster: Floats, seed: int = 0) -> Interval:
    """How many times faster, with its interval: the ratio of the two medians. Both (sittings, calls), positive.

    Of the medians and not the median of pairs, so that it is what the table's own columns give when they are divided;
    where one of the two has two speeds, the median of pairs can be far from that. Both are drawn with the same
    sittings, which keeps what hit both alike out of the interval. It is symmetric on the log scale: bootstrap over
    sittings, its standard error corrected for their number, Student's t instead of the normal.
    """
    ratio = quantile(slower, 0.5) / quantile(faster, 0.5)
    error = cluster_error(np.log(slower), np.log(faster), seed)
    if error is None:
        return Interval(ratio, None, None)
    reach = math.exp(student(len(slower) - 1) * error)
    return Interval(ratio, ratio / reach, ratio * reach)


def cluster_error(values: Floats, minus: Floats | None = None, seed: int = 0) -> float | None:
    """Standard error of the median over all values, less the median of others, sittings drawn with replacement.

    (sittings, calls) each. Neighbouring sittings are also drawn in pairs, and the larger error counts: with six
    sittings and a drift of one form alone that outlasts a round, 19 of 20 intervals then hold what they should (a test
    simulates it), 17 or 18 else. None with one sitting.
    """
    both = (values,) if minus is None else (values, minus)
    count = len(values)
    if count < 2:
        return None
    errors = [_error(both, seed)]
    if count >= 4:
        errors.append(_error([one[count % 2 :].reshape(count // 2, -1) for one in both], seed))
    return max(errors)


def _error(both: Sequence[Floats], seed: int) -> float:
    count = len(both[0])
    drawn = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    medians = _less([np.median(one[drawn].reshape(RESAMPLES, -1), axis=1) for one in both])
    # The median of few clusters often is one and the same number; the clusters' own medians show their spread.
    own = _less([np.median(one, axis=1) for one in both])
    return max(float(medians.std()) * math.sqrt(count / (count - 1)), float(own.std(ddof=1)) / math.sqrt(count))


def _less(medians: Sequence[Floats]) -> Floats:
    return medians[0] if len(medians) == 1 else medians[0] - medians[1]


def student(freedom: int, compared: int = 1) -> float:
    """How many standard errors an interval of LEVEL reaches to either side, by Student's t.

    compared: intervals that are looked at together; all of them then hold what they should as often as one alone does
    (Bonferroni).
    """
    low, high, wanted = 0.0, 1e6, 1 - (1 - LEVEL) / compared
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < wanted else (low, middle)
    return high


def _within(reach: float, freedom: int) -> float:
    """The share of Student's t from -reach to reach. Source: Abramowitz & Stegun 26.7.3 and 26.7.4."""
    angle = math.atan2(reach, math.sqrt(freedom))
    sine, cosine, odd = math.sin(angle), math.cos(angle), freedom % 2
    term = total = cosine if odd else 1.0
    for step in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (step - 1) / step
        total += term
    if not odd:
        return sine * total
    return 2 / math.pi * (angle + (sine * total if freedom > 1 else 0.0))


def outlier_flag(samples: Floats) -> str:
    """In words where more than one call in twenty took half as long again as the median one; else empty."""
    flat = samples.ravel()
    share = float((flat > OUTLIER * np.median(flat)).mean())
    if share <= _OUTLIER_SHARE:
        return ""
    return f"{100 * share:.0f} % of the calls took over {OUTLIER:g} times the median: something else ran"


def restless_flag(sittings: Sequence[Sitting[Key]]) -> str:
    """In words where threads of this process would not sleep before more than one turn in twenty; else empty."""
    turns = sum(len(drawn) for sitting in sittings for drawn in sitting.order)
    share = sum(sitting.restless for sitting in sittings) / turns
    if share <= _OUTLIER_SHARE:
        return ""
    return f"threads of one form still worked when the next one's turn began, {100 * share:.0f} % of the times"


def drift_flag(samples: Mapping[Key, Floats]) -> str:
    """In words where all forms together became slower or faster from the first to the last third of the run.

    That is what throttling and a busy neighbour look like. Each (sittings, calls).
    """
    logs = np.mean([np.log(found.ravel() / np.median(found)) for found in samples.values()], axis=0)
    third = len(logs) // 3
    if third < 2:
        return ""
    change = math.expm1(float(np.median(logs[-third:]) - np.median(logs[:third])))
    if abs(change) <= DRIFT:
        return ""
    return (
        f"all forms together became {abs(change) * 100:.0f} % {'slower' if change > 0 else 'faster'} during the run:"
        " clocks, temperature or another process. Ratios hold within their intervals, milliseconds do not."
    )
