"""False alarms and delays of the drift watch, by simulation: python benchmarks/drift_alarms.py [--hours 10]

A line is a profile of n pictures and then hours of parts of the same kind, ten a second. Every line gets its own
profile, because a profile that happens to be off is the commonest reason for a false alarm. The two tests run as array
operations here; that they are those of segdec_edge.station.drift is checked on each kind of parts before.
Kinds: independent parts with a normal figure; a skewed one (gamma, shape 2); scores with 2 % defects 12 deviations
away; and parts that resemble each other in a row (correlation 0.9 and 0.98 between neighbours).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from entry import one_line, read_record, require_rounds
from numpy.typing import NDArray
from scipy.signal import lfilter

from segdec_edge.config.drift import DriftConfig
from segdec_edge.files import require_place, write_atomic
from segdec_edge.profile import Spread, quantile_edges, spread_of
from segdec_edge.station.drift import _CLIP, _Figure, _figure

PARTS_PER_S = 10
Values = NDArray[np.float64]
RESULTS = Path(__file__).parent / "results" / "drift_alarms.json"


@dataclass(frozen=True)
class Kind:
    """draws(rng, n, on_the_line): n figures in a row, mean 0 and deviation 1 but for defects, which profiles of good
    pictures do not hold."""

    name: str
    draws: Callable[[np.random.Generator, int, bool], Values]


def _skewed(rng: np.random.Generator, n: int, line: bool) -> Values:
    return (rng.gamma(2.0, size=n) - 2) / np.sqrt(2)


def _with_defects(rng: np.random.Generator, n: int, line: bool) -> Values:
    good = _skewed(rng, n, line)
    return np.where(rng.random(n) < 0.02, good + 12, good) if line else good


def _alike(rho: float) -> Callable[[np.random.Generator, int, bool], Values]:
    def draws(rng: np.random.Generator, n: int, line: bool) -> Values:
        if not line:  # a profile's pictures are picked from everywhere
            return rng.normal(size=n)
        noise = rng.normal(size=n)
        noise[0] /= np.sqrt(1 - rho**2)
        return np.asarray(lfilter([np.sqrt(1 - rho**2)], [1, -rho], noise), np.float64)

    return draws


KINDS = (
    Kind("normal", lambda rng, n, line: rng.normal(size=n)),
    Kind("skewed", _skewed),
    Kind("2 % defects", _with_defects),
    Kind("correlation 0.9", _alike(0.9)),
    Kind("correlation 0.98", _alike(0.98)),
)


def make_figure(kind: Kind, rng: np.random.Generator, pictures: int, config: DriftConfig) -> tuple[_Figure, Spread]:
    values = kind.draws(rng, pictures, False)
    scores = kind.name == "2 % defects"
    edges = quantile_edges(values)
    if scores:
        edges = (*edges, float(np.nextafter(values.max(), np.inf)))
    spread = spread_of(values, edges)
    # Made-up figures in deviations: the floor of the real ones, in grey levels, must not meet them.
    scaled = spread if scores else spread.model_copy(update={"deviation": max(spread.deviation, 1e-9)})
    figure = _figure("figure", "score", scaled, None, config if scores else config.model_copy(update=_NO_DEFECTS))
    assert figure is not None
    return figure, scaled


_NO_DEFECTS = {"expected_defects": 0.0}


def sums_of(figure: _Figure, values: Values) -> Values:
    """The larger of the two cumulative sums after each part, as if it had no ceiling."""
    one = figure._sums
    away = np.clip((values - one.mean) / one.deviation, -_CLIP, _CLIP)
    found = np.zeros(len(values))
    for side in (1, -1):
        total = np.cumsum(side * away - one._allowance)
        np.maximum(found, total - np.minimum(np.minimum.accumulate(total), 0.0), out=found)
    return found


def indices_of(figure: _Figure, values: Values) -> Values:
    """The stability index at each look, from the first whole window on."""
    index = figure._index
    bins, every = len(index._expected), index._every
    where = np.searchsorted(index._edges, values, side="right")
    looks = len(values) // every
    cells = where[: looks * every] + bins * np.repeat(np.arange(looks), every)
    counts = np.bincount(cells, minlength=bins * looks).reshape(looks, bins)
    total = np.cumsum(np.vstack([np.zeros((1, bins)), counts]), axis=0)
    whole = index.window // every
    share = (total[whole:] - total[:-whole] + 0.5) / (index.window + 0.5 * bins)
    expected = np.array(index._expected)
    return np.asarray(((share - expected) * np.log(share / expected)).sum(axis=1), np.float64)


def check_same(config: DriftConfig) -> None:
    """The array operations are the classes', also past an alarm's beginning."""
    for kind in KINDS:
        rng = np.random.default_rng(1)
        figure, _ = make_figure(kind, rng, 100, config)
        values = kind.draws(rng, 20_000, True)
        values[12_000:] += 1.5
        sums, indices = sums_of(figure, values), indices_of(figure, values)
        raised: dict[str, int] = {}
        for number, value in enumerate(values):
            for note in figure.add(float(value)):
                if note.raised:
                    raised.setdefault(note.name.rsplit(" ", 1)[1], number)
        assert raised["shift"] == int(np.argmax(sums >= figure._sums._limit)), kind.name
        look = int(np.argmax(indices > figure._index.limit))
        assert raised["spread"] == figure._index.window - 1 + look * figure._index._every, kind.name


def false_alarms(kind: Kind, pictures: int, config: DriftConfig, lines: int, hours: float) -> dict[str, object]:
    shifted = spread = 0
    parts = int(hours * 3600 * PARTS_PER_S)
    for line in range(lines):
        rng = np.random.default_rng([7, pictures, line])
        figure, _ = make_figure(kind, rng, pictures, config)
        values = kind.draws(rng, parts, True)
        shifted += bool((sums_of(figure, values) >= figure._sums._limit).any())
        spread += bool((indices_of(figure, values) > figure._index.limit).any())
    return {
        "kind": kind.name,
        "profile_pictures": pictures,
        "lines": lines,
        "hours_each": hours,
        "lines_with_shift_alarm": shifted,
        "lines_with_spread_alarm": spread,
        "spread_limit": round(figure._index.limit, 3),
    }


def delays(kind: Kind, pictures: int, config: DriftConfig, shift: float, lines: int) -> dict[str, object]:
    """Parts from a sudden lasting shift to the alarm, after an hour without one."""
    before, after = 3600 * PARTS_PER_S, 60_000
    by_sum, by_index = [], []
    for line in range(lines):
        rng = np.random.default_rng([9, pictures, line])
        figure, _ = make_figure(kind, rng, pictures, config)
        values = kind.draws(rng, before + after, True)
        values[before:] += shift
        sums = sums_of(figure, values)[before:] >= figure._sums._limit
        by_sum.append(int(np.argmax(sums)) + 1 if sums.any() else None)
        index = figure._index
        looks = indices_of(figure, values) > index.limit
        ends = index.window + np.arange(len(looks)) * index._every
        late = ends[looks & (ends > before)]
        by_index.append(int(late[0]) - before if len(late) else None)
    return {
        "kind": kind.name,
        "profile_pictures": pictures,
        "shift_deviations": shift,
        "shift_alarm_parts": _told(by_sum),
        "spread_alarm_parts": _told(by_index),
    }


def _told(found: list[int | None]) -> dict[str, object]:
    known = sorted(one for one in found if one is not None)
    quantile = {f"p{share}": known[min(len(known) - 1, len(known) * share // 100)] for share in (50, 95) if known}
    return {"told": len(known), "of": len(found), **quantile}


def cost_us(config: DriftConfig, parts: int = 100_000) -> float:
    """One figure, one part, in µs; a watch has three."""
    rng = np.random.default_rng(0)
    figure, _ = make_figure(KINDS[0], rng, 100, config)
    values = rng.normal(size=parts).tolist()
    rounds = []
    for _ in range(5):  # the fastest: others use this machine too
        started = time.perf_counter()
        for value in values:
            figure.add(value)
        rounds.append(time.perf_counter() - started)
    return min(rounds) / parts * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--cost", action="store_true", help="Only time the watch anew; keep the rest of the results.")
    parser.add_argument("-o", "--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    require_rounds(asked.lines, 1, "lines")
    require_place(asked.out)
    config = DriftConfig()
    check_same(config)
    if asked.cost:
        kept = read_record(asked.out)
        write(asked.out, {**kept, "cost_us_a_part_and_figure": round(cost_us(config), 2)})
        return
    quiet, told = [], []
    for kind in KINDS:
        for pictures in (30, 100, 500):
            quiet.append(false_alarms(kind, pictures, config, asked.lines, asked.hours))
            print(json.dumps(quiet[-1]), flush=True)
        for shift in (0.75, 1.0, 1.5, 2.0):
            told.append(delays(kind, 100, config, shift, 50))
            print(json.dumps(told[-1]), flush=True)
    result = {
        "config": config.model_dump(),
        "parts_per_s": PARTS_PER_S,
        "false_alarms": quiet,
        "delays": told,
        "cost_us_a_part_and_figure": round(cost_us(config), 2),
    }
    write(asked.out, result)


def write(path: Path, result: dict[str, object]) -> None:
    write_atomic(path, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    one_line(main)
