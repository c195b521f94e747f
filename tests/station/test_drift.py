"""The drift watch: silent on a line as in training, told of what changes, and told when it is over."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.bundle import utc_now
from segdec_edge.config.drift import DriftConfig
from segdec_edge.profile import Profile, Seen, profile_of
from segdec_edge.station.drift import CumulativeSum, DriftNote, DriftWatch, StabilityIndex, _expected, watch_for

MODEL, OTHER = "a" * 64, "b" * 64
CONFIG = DriftConfig(window=500, patience=300)


def sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


class Line:
    """Parts whose logits are normal about −4 (good) or 4 (defective), in light of 120 ± 4 with contrast 30 ± 2."""

    def __init__(self, seed: int, defects: float = 0.02) -> None:
        self.rng, self.defects = np.random.default_rng(seed), defects
        self.score_by = self.light_by = self.contrast_by = 0.0

    def part(self) -> tuple[bool, float, tuple[float, float]]:
        bad = bool(self.rng.random() < self.defects)
        logit = (4.0 if bad else -4.0) + self.rng.normal() + self.score_by
        light = 120 + 4 * self.rng.normal() + self.light_by, 30 + 2 * self.rng.normal() + self.contrast_by
        return bad, sigmoid(logit), light

    def profile(self, count: int = 200, defects: float = 0.5) -> Profile:
        usual, self.defects = self.defects, defects
        seen = [Seen(*self.part()) for _ in range(count)]
        self.defects = usual
        return profile_of(seen, data="folder:x", subset="validation", model_sha256=MODEL, when=utc_now())


def run(watch: DriftWatch, line: Line, parts: int) -> list[DriftNote]:
    notes: list[DriftNote] = []
    for _ in range(parts):
        _, score, light = line.part()
        notes += watch.observe(score, light)
    return notes


def make(line: Line, config: DriftConfig = CONFIG, **changes: str) -> DriftWatch:
    return DriftWatch(line.profile(), config, **{"model_sha256": MODEL, "camera": "left", "recipe": "lid", **changes})


@pytest.mark.parametrize("seed", range(3))
def test_a_line_as_in_training_is_silent_although_its_mix_is_another(seed: int) -> None:
    line = Line(seed)
    assert run(make(line), line, 10_000) == []  # half of the profile's pictures are defective, 2 % of the line's


@pytest.mark.parametrize(
    ("change", "figure"),
    [("light_by", "brightness"), ("contrast_by", "contrast"), ("score_by", "score")],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_lasting_shift_is_told_once_and_so_is_its_end(change: str, figure: str, sign: int) -> None:
    line = Line(7)
    watch = make(line)
    assert run(watch, line, 1000) == []
    size = {"light_by": 8.0, "contrast_by": 4.0, "score_by": 2.0}[change]
    setattr(line, change, sign * size)
    notes = run(watch, line, 3000)
    shifts = [note for note in notes if note.name.endswith("shift")]
    assert [(note.name, note.raised) for note in shifts] == [(f"drift left/lid {figure} shift", True)]
    assert ("above" if sign > 0 else "below") in shifts[0].message
    assert {note.name for note in notes} == {f"drift left/lid {figure} {test}" for test in ("shift", "spread")}
    assert len(notes) == 2
    setattr(line, change, 0.0)
    ended = run(watch, line, 3000)
    assert {(note.name, note.raised) for note in ended} == {(note.name, False) for note in notes}


def test_a_change_of_shape_alone_is_told_by_the_index() -> None:
    line = Line(2)
    watch = make(line)
    notes: list[DriftNote] = []
    for index in range(2000):
        notes += watch.observe(
            sigmoid(-4 + line.rng.normal()), (120 + (8 if index % 2 else -8), 30.0 + line.rng.normal())
        )
    assert ("drift left/lid brightness spread", True) in [(note.name, note.raised) for note in notes]
    assert not [note for note in notes if "brightness shift" in note.name]
    assert "wanted at most" in notes[0].message


def test_the_scores_expected_are_the_lines_mix_of_good_and_defective() -> None:
    profile = Line(3).profile()
    good, bad = profile.good, profile.defective
    assert good is not None and bad is not None
    found = _expected(good, bad, 0.2)
    assert sum(found) == pytest.approx(1.0)
    assert found[-1] == pytest.approx(0.2, abs=0.02)  # all defects lie there, and no good part
    assert found[0] == pytest.approx(0.8 * good.counts[0] / good.total, abs=0.01)
    assert _expected(good, None, 0.2)[-1] == pytest.approx(found[-1], abs=0.02)  # nobody has seen a defect yet
    assert _expected(good, bad, 0.0)[-1] < 0.01


def test_many_more_defects_than_expected_are_told() -> None:
    line = Line(4)
    watch = make(line)
    assert run(watch, line, 1000) == []
    line.defects = 0.5
    assert "drift left/lid score spread" in [note.name for note in run(watch, line, 1000)]


def test_nothing_is_told_before_there_are_enough_parts() -> None:
    line = Line(5)
    watch = make(line, DriftConfig(window=500, patience=100_000))
    line.light_by = 40.0
    assert run(watch, line, 499) == []
    assert [note.name for note in run(watch, line, 1)] == ["drift left/lid brightness spread"]


def test_scores_of_another_model_are_not_compared_but_the_light_is() -> None:
    line = Line(6)
    assert make(line).watched == tuple(f"left/lid {one}" for one in ("score", "brightness", "contrast"))
    watch = make(line, model_sha256=OTHER)
    assert watch.watched == ("left/lid brightness", "left/lid contrast")
    line.score_by, line.light_by = 5.0, 20.0
    assert {note.name.split()[2] for note in run(watch, line, 2000)} == {"brightness"}


def test_a_profile_of_few_pictures_watches_nothing() -> None:
    line = Line(1)
    assert DriftWatch(line.profile(19), CONFIG, model_sha256=MODEL).watched == ()


def test_what_cannot_be_watched_is_said() -> None:
    line = Line(1)

    def told(profile: Profile | None, config: DriftConfig = CONFIG, model: str = MODEL) -> tuple[bool, str]:
        watch, words = watch_for(
            profile, config, bundle=Path("lid.bundle"), model_sha256=model, camera="left", recipe="lid"
        )
        return watch is not None, words

    assert told(line.profile()) == (True, "")
    assert told(None) == (False, "no profile: drift is not watched; segdec profile lid.bundle --data SPEC adds it")
    assert told(None, DriftConfig(enabled=False)) == (False, "")
    assert told(line.profile(5))[1].startswith("profile of 5 pictures, wanted 20: drift is not watched")
    assert told(line.profile(), model=OTHER)[1].startswith("the profile is of another model: of drift only the light")
    assert told(line.profile(30, defects=0.9))[1].startswith("the profile has too few good pictures")


def test_parts_without_a_score_or_a_picture_are_taken() -> None:
    watch = make(Line(1))
    assert [watch.observe(score, light) for score in (None, 0.0, 1.0) for light in (None, (0.0, 0.0))] == [()] * 6


def test_its_memory_does_not_grow() -> None:
    line = Line(8)
    watch = make(line)
    run(watch, line, 1000)
    figure = watch._brightness
    assert figure is not None
    before = sys.getsizeof(figure._index._values), len(figure._index._values), sum(figure._index._bins)
    run(watch, line, 5000)
    assert (sys.getsizeof(figure._index._values), len(figure._index._values), sum(figure._index._bins)) == before


def test_the_index_is_its_formula_over_the_last_window() -> None:
    rng = np.random.default_rng(0)
    index = StabilityIndex((0.0, 1.0), (0.5, 0.3, 0.2), pictures=100, window=200, psi=0.25)
    values = rng.normal(0.3, 1, 700)
    looks = [number for number, value in enumerate(values) if index.add(float(value))]
    assert looks == list(range(199, 700, 20))
    last = looks[-1]
    shares = (np.histogram(values[last - 199 : last + 1], [-np.inf, 0.0, 1.0, np.inf])[0] + 0.5) / 201.5
    expected = np.array([0.5, 0.3, 0.2])
    assert index.value == pytest.approx(((shares - expected) * np.log(shares / expected)).sum())
    exact = 0.25 + 27.63 * (1 / 100 + 1 / 200)  # scipy.stats.chi2.isf(1e-6, 2)
    assert exact < index.limit < 1.1 * exact


def test_the_sum_counts_one_part_at_most_so_much() -> None:
    sums = CumulativeSum(0.0, 1.0, allowance=0.5, limit=10.0)
    sums.add(1e9)
    assert not sums.shifted
    for _ in range(3):
        sums.add(1e9)
    assert sums.shifted and sums.upward
