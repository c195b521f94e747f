"""Does the line still look as it did in training? Scores and light against the bundle's profile, part by part.

Two questions for each figure. Over the last parts: is it spread as in the profile (population stability index)? Part by
part: does its mean keep away from the profile's (two-sided cumulative sum, which is Page and Hinkley's test with a
known mean)? The first sees any change of shape, the second small lasting shifts. Both only tell: no threshold changes.

Knows no camera, no clock and no log. It does not know why something drifts, and parts that resemble each other in a row
(a lot, a warm lamp) count as if they did not: the limits leave room for that (benchmarks/drift_alarms.py).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segdec_edge.config.drift import DriftConfig
from segdec_edge.profile import Profile, Spread, logit

FEWEST_PICTURES = 20
"""A profile of fewer pictures says too little about its own mean: no alarm could be believed."""
LEAST_DEVIATION = {"brightness": 1.0, "contrast": 0.5, "score": 0.1}
"""In grey levels, and in logits: made-up or very even pictures would make a change that nobody can see an alarm."""
_CLIP = 3.0
"""Deviations: one part counts at most so much in the sum, so that a few defects are no shift of the good parts."""
_LOOKS = 10
"""The index is calculated so often a window."""
_Z = 4.75
"""Standard normal quantile: one look in a million is past it by chance."""


def watch_for(
    profile: Profile | None, config: DriftConfig, *, bundle: Path, model_sha256: str, camera: str, recipe: str
) -> tuple[DriftWatch | None, str]:
    """The watch of one camera and recipe, None where nothing can be watched; and in one line what is not watched and
    why, empty where all is or where it is switched off.
    """
    if not config.enabled:
        return None, ""
    add = f"segdec profile {bundle} --data SPEC adds it"
    if profile is None:
        return None, f"no profile: drift is not watched; {add}"
    watch = DriftWatch(profile, config, model_sha256=model_sha256, camera=camera, recipe=recipe)
    if not watch.watched:
        return None, f"profile of {profile.pictures} pictures, wanted {FEWEST_PICTURES}: drift is not watched; {add}"
    if not any(name.endswith(" score") for name in watch.watched):
        why = "is of another model" if profile.model_sha256 != model_sha256 else "has too few good pictures"
        return watch, f"the profile {why}: of drift only the light is watched, not the scores; {add}"
    return watch, ""


@dataclass(frozen=True)
class DriftNote:
    """name: which figure of which camera and recipe; raised: it began, else it is over; message: in words."""

    name: str
    raised: bool
    message: str


class DriftWatch:
    """Of one camera and one recipe. Used by one thread; its memory does not grow."""

    def __init__(
        self, profile: Profile, config: DriftConfig, *, model_sha256: str, camera: str = "camera", recipe: str = ""
    ) -> None:
        where = f"{camera}/{recipe}" if recipe else camera
        self._brightness = _figure(f"{where} brightness", "brightness", profile.brightness, None, config)
        self._contrast = _figure(f"{where} contrast", "contrast", profile.contrast, None, config)
        self._score: _Figure | None = None
        # Scores of another model, as before folding or quantising, are spread otherwise; the light is the same.
        if profile.good is not None and profile.model_sha256 == model_sha256:
            self._score = _figure(f"{where} score", "score", profile.good, profile.defective, config)

    @property
    def watched(self) -> tuple[str, ...]:
        """The figures that the profile says enough about."""
        figures = (self._score, self._brightness, self._contrast)
        return tuple(one.name for one in figures if one is not None)

    def observe(self, score: float | None, light: tuple[float, float] | None) -> tuple[DriftNote, ...]:
        """Take one part; what began or ended with it, mostly nothing.

        score None where there is none; light (pictures.light_of the prepared picture) None where it has no picture.
        """
        notes: tuple[DriftNote, ...] = ()
        if score is not None and self._score is not None:
            notes = self._score.add(logit(score))
        if light is not None:
            if self._brightness is not None:
                notes += self._brightness.add(light[0])
            if self._contrast is not None:
                notes += self._contrast.add(light[1])
        return notes


class _Figure:
    """One figure: both tests."""

    def __init__(self, name: str, index: StabilityIndex, sums: CumulativeSum, unit: str) -> None:
        self.name = name
        self._index, self._sums, self._unit = index, sums, unit
        self._spread_told = self._shift_told = False

    def add(self, value: float) -> tuple[DriftNote, ...]:
        self._sums.add(value)
        looked = self._index.add(value)
        if not looked and (self._sums.shifted is self._shift_told or self._sums.between):
            return ()
        return (*self._shift(), *(self._spread() if looked else ()))

    def _shift(self) -> tuple[DriftNote, ...]:
        if self._sums.between or self._sums.shifted is self._shift_told:
            return ()
        self._shift_told = self._sums.shifted
        if not self._shift_told:
            return (DriftNote(f"drift {self.name} shift", False, f"{self.name} is back at the profile's mean"),)
        recent, mean = self._index.recent_mean, self._sums.mean
        message = (
            f"{self.name} keeps {'above' if self._sums.upward else 'below'} the training profile: {recent:.4g}"
            f" {self._unit} over the last parts, wanted about {mean:.4g} ± {self._sums.deviation:.3g}. {_ADVICE}"
        )
        return (DriftNote(f"drift {self.name} shift", True, message),)

    def _spread(self) -> tuple[DriftNote, ...]:
        value, limit = self._index.value, self._index.limit
        told = value > limit if not self._spread_told else value > limit / 2
        if told is self._spread_told:
            return ()
        self._spread_told = told
        state = "is spread otherwise than in" if told else "is spread again as in"
        message = (
            f"{self.name} {state} the training profile: stability index {value:.2f} over {self._index.window} parts,"
            f" wanted at most {limit:.2f}." + (f" {_ADVICE}" if told else "")
        )
        return (DriftNote(f"drift {self.name} spread", told, message),)


class StabilityIndex:
    """Population stability index Σ (p − e) ln(p / e) of the last `window` values against expected shares of bins.

    Below the limit, where chance alone can explain it: with n profile pictures and w parts in b bins it is about χ²
    of b − 1 degrees times (1/n + 1/w) (Yurdakul 2018), so few pictures give a higher limit than the usual 0.25.
    """

    def __init__(
        self, edges: Sequence[float], expected: Sequence[float], pictures: int, window: int, psi: float
    ) -> None:
        self._edges, self._expected, self.window = tuple(edges), tuple(expected), window
        self.limit = psi + _chi_squared(len(expected) - 1) * (1 / pictures + 1 / window)
        self.value = 0.0
        self._bins = [0] * len(expected)
        self._values: deque[float] = deque(maxlen=window)
        self._every = max(1, window // _LOOKS)
        self._until_look = window

    @property
    def recent_mean(self) -> float:
        """Of the newest tenth of a window."""
        newest = [self._values[-1 - back] for back in range(min(self._every, len(self._values)))]
        return sum(newest) / max(1, len(newest))

    def add(self, value: float) -> bool:
        """Whether `value` was calculated anew: from the first whole window on, ten times a window."""
        if len(self._values) == self.window:
            self._bins[bisect_right(self._edges, self._values[0])] -= 1
        self._values.append(value)
        self._bins[bisect_right(self._edges, value)] += 1
        self._until_look -= 1
        if self._until_look:
            return False
        self._until_look = self._every
        self.value = self._calculated()
        return True

    def _calculated(self) -> float:
        bins = len(self._bins)
        total = 0.0
        for count, expected in zip(self._bins, self._expected, strict=True):
            share = (count + 0.5) / (self.window + 0.5 * bins)  # half a part more in each: none of them is empty
            total += (share - expected) * math.log(share / expected)
        return total


class CumulativeSum:
    """Two-sided cumulative sum of the deviations from a known mean, each less the allowance, never below 0.

    Past `limit` it has shifted; below half of it again it is back. It stays at the limit while the shift lasts, so that
    it comes back as fast as it went. allowance and limit in standard deviations.
    """

    def __init__(self, mean: float, deviation: float, allowance: float, limit: float) -> None:
        self.mean, self.deviation = mean, deviation
        self._allowance, self._limit = allowance, limit
        self._above = self._below = self._larger = 0.0

    def add(self, value: float) -> None:
        away = (value - self.mean) / self.deviation
        away = _CLIP if away > _CLIP else -_CLIP if away < -_CLIP else away
        above, below = self._above + away - self._allowance, self._below - away - self._allowance
        self._above = 0.0 if above < 0.0 else above if above < self._limit else self._limit
        self._below = 0.0 if below < 0.0 else below if below < self._limit else self._limit
        self._larger = self._above if self._above > self._below else self._below

    @property
    def upward(self) -> bool:
        return self._above >= self._below

    @property
    def shifted(self) -> bool:
        return self._larger >= self._limit

    @property
    def between(self) -> bool:
        """Neither shifted nor surely back."""
        return self._limit / 2 <= self._larger < self._limit


_ADVICE = "Look at light, lens, exposure and parts; if this is how it shall be, make the profile anew, or train on it."


def _figure(name: str, kind: str, spread: Spread, defective: Spread | None, config: DriftConfig) -> _Figure | None:
    """None where the profile has too few pictures for it."""
    pictures = spread.total
    if pictures < FEWEST_PICTURES:
        return None
    share = config.expected_defects if kind == "score" else 0.0
    index = StabilityIndex(spread.edges, _expected(spread, defective, share), pictures, config.window, config.psi)
    # A mean of n pictures is itself known to 1/√n deviations only.
    allowance = config.shift + 1 / math.sqrt(pictures)
    deviation = max(spread.deviation, LEAST_DEVIATION[kind])
    limit = config.patience * config.shift
    return _Figure(name, index, CumulativeSum(spread.mean, deviation, allowance, limit), _UNITS[kind])


_UNITS = {"score": "(logit)", "brightness": "grey levels", "contrast": "grey levels"}


def _expected(spread: Spread, defective: Spread | None, share: float) -> list[float]:
    """The shares of the bins on the line: a mix of good and defective pictures. Defects that nobody has seen are
    expected in the last bin, above all good ones."""
    good = _shares(spread.counts)
    if share == 0.0:
        return good
    bad = [0.0] * (len(good) - 1) + [1.0] if defective is None else _shares(defective.counts)
    return [(1 - share) * one + share * other for one, other in zip(good, bad, strict=True)]


def _shares(counts: Sequence[int]) -> list[float]:
    """Half a picture more in each bin: what was never seen among n pictures may still come."""
    total = sum(counts) + 0.5 * len(counts)
    return [(count + 0.5) / total for count in counts]


def _chi_squared(degrees: int) -> float:
    """The quantile of χ² that chance passes once in a million (Wilson and Hilferty 1931).

    Never too low; too high by 15 % for 1 degree of freedom, 9 % for 2, 2.5 % for 9.
    """
    part = 2 / (9 * degrees)
    return float(degrees * (1 - part + _Z * math.sqrt(part)) ** 3)
