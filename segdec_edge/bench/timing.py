"""Times taken in turns, and what may be said of them. Knows no backend: a turn is a function that gives milliseconds.

Why this way. A machine drifts (clocks, temperature, neighbours), so every form is timed in every round, in an order
shuffled anew each round: what drifts hits all alike, and a ratio is taken within a round. A process also settles: where
a model's weights and buffers happen to lie can make one of two equal models steadily faster for as long as it is open.
So everything is opened anew several times, in sittings. Rounds of one sitting are no independent samples, sittings
nearly are: the interval of a ratio resamples whole sittings (a cluster bootstrap), which needs no guess of how long a
drift lasts. Sources: Kalibera & Jones 2013 (repetition at the level where the variation is), Mytkowicz et al. 2009
(layout), Field & Welsh 2007 (cluster bootstrap), Hesterberg 2015 (its correction for few clusters).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Key = TypeVar("Key", bound=Hashable)
Times = Mapping[str, float]
"""Milliseconds by stage; the same stages every time."""
Turn = Callable[[int], Times]
"""Run once, on the pictures of that round."""
Floats = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 2000
_T = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
      2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045)  # fmt: skip
"""Student's 97.5 % point for 1, 2, … degrees of freedom."""
_Z = 1.960
DRIFT = 0.05
OUTLIER = 1.5
_OUTLIER_SHARE = 0.05


@dataclass(frozen=True)
class Sitting(Generic[Key]):
    """samples[key]: one Times a round; order: who ran when, by round."""

    samples: Mapping[Key, tuple[Times, ...]]
    order: tuple[tuple[Key, ...], ...]


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
    warm_up: int = 2,
    first_round: int = 0,
    done: Callable[[], None] | None = None,
) -> Sitting[Key]:
    """Every turn once a round, in an order drawn anew each round; warm_up untimed runs of each first.

    first_round: the number of the first round, for the pictures. Raises what a turn raises.
    """
    keys = list(turns)
    for turn in turns.values():
        for index in range(warm_up):
            turn(first_round + index)
    samples: dict[Key, list[Times]] = {key: [] for key in keys}
    order = []
    for index in range(first_round, first_round + rounds):
        drawn = [keys[place] for place in rng.permutation(len(keys))]
        for key in drawn:
            samples[key].append(turns[key](index))
            if done is not None:
                done()
        order.append(tuple(drawn))
    return Sitting({key: tuple(found) for key, found in samples.items()}, tuple(order))


def stage_of(sittings: Sequence[Sitting[Key]], key: Key, stage: str) -> Floats:
    """Milliseconds of one stage, (sittings, rounds)."""
    return np.array([[one[stage] for one in sitting.samples[key]] for sitting in sittings], np.float64)


def quantile(samples: Floats, share: float) -> float:
    """The nearest sample at or above: no interpolation makes a p99 that never happened."""
    return float(np.quantile(samples, share, method="higher"))


def ratio_interval(slower: Floats, faster: Floats, seed: int = 0) -> Interval:
    """How many times faster, with its interval: the median over rounds of paired ratios. Both (sittings, rounds).

    Positive times. The interval is symmetric on the log scale: bootstrap over sittings, its standard error corrected
    for their number, Student's t instead of the normal.
    """
    logs = np.log(slower) - np.log(faster)
    centre = float(np.median(logs))
    error = cluster_error(logs, seed)
    if error is None:
        return Interval(math.exp(centre), None, None)
    reach = student(len(logs) - 1) * error
    return Interval(math.exp(centre), math.exp(centre - reach), math.exp(centre + reach))


def cluster_error(values: Floats, seed: int = 0) -> float | None:
    """Standard error of the median over all values, (sittings, rounds), sittings drawn with replacement.

    Neighbouring sittings are also drawn in pairs, and the larger error counts: with six sittings and a drift of one
    form alone that outlasts a round, 19 of 20 intervals then hold what they should (a test simulates it), 17 or 18
    else. None with one sitting.
    """
    count = len(values)
    if count < 2:
        return None
    errors = [_error(values, seed)]
    if count >= 4:
        even = values[count % 2 :]
        errors.append(_error(even.reshape(len(even) // 2, -1), seed))
    return max(errors)


def _error(clusters: Floats, seed: int) -> float:
    count = len(clusters)
    drawn = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    medians = np.median(clusters[drawn].reshape(RESAMPLES, -1), axis=1)
    # The median of few clusters often is one and the same number; the clusters' own medians show their spread.
    own = np.median(clusters, axis=1)
    return max(float(medians.std()) * math.sqrt(count / (count - 1)), float(own.std(ddof=1)) / math.sqrt(count))


def student(freedom: int) -> float:
    """The 97.5 % point of Student's t."""
    return _T[freedom - 1] if freedom <= len(_T) else _Z * (1 + 1 / (4 * freedom))


def outlier_flag(samples: Floats) -> str:
    """In words where more than one call in twenty took half as long again as the median one; else empty."""
    flat = samples.ravel()
    share = float((flat > OUTLIER * np.median(flat)).mean())
    if share <= _OUTLIER_SHARE:
        return ""
    return f"{100 * share:.0f} % of the calls took over {OUTLIER:g} times the median: something else ran"


def drift_flag(samples: Mapping[Key, Floats]) -> str:
    """In words where all forms together became slower or faster from the first to the last third of the rounds.

    That is what throttling and a busy neighbour look like. Each (sittings, rounds).
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
