"""How two bundles do when the light changes: FeatureNorm adapts by itself, a folded network as far as it has learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segdec_edge.bundle import Bundle
from segdec_edge.data.samples import Sample
from segdec_edge.deploy.gate import Comparison, Exam, compare, marks_of
from segdec_edge.types import BoolMask, Pixels

CHANGES: tuple[tuple[str, float, float], ...] = (
    ("as it is", 1.0, 0.0),
    ("30 % darker", 0.7, 0.0),
    ("30 % brighter", 1.3, 0.0),
    ("30 grey levels darker", 1.0, -30.0),
    ("30 grey levels brighter", 1.0, 30.0),
)
"""Name, factor on every grey value, grey levels added; what leaves 0 to 255 is cut off, as a camera would."""
MOST = 60


@dataclass(frozen=True)
class Lighting:
    """Both bundles on the same pictures under one change of light."""

    change: str
    comparison: Comparison


@dataclass(frozen=True)
class _Lit:
    """A sample seen in another light."""

    sample: Sample
    gain: float
    offset: float

    @property
    def name(self) -> str:
        return self.sample.name

    @property
    def part(self) -> str:
        return self.sample.part

    @property
    def positive(self) -> bool:
        return self.sample.positive

    @property
    def has_mask(self) -> bool:
        return self.sample.has_mask

    @property
    def path(self) -> Path | None:
        return self.sample.path

    @property
    def sources(self) -> tuple[Path | str, ...]:
        return (*self.sample.sources, f"{self.gain} {self.offset}")

    def read(self) -> Pixels:
        lit: Pixels = np.clip(self.sample.read() * self.gain + self.offset, 0, 255).round().astype(np.uint8)
        return lit

    def read_mask(self) -> BoolMask | None:
        return self.sample.read_mask()


def under_other_light(
    before: Bundle, after: Bundle, exam: Exam, say: Callable[[str], None], most: int = MOST
) -> tuple[Lighting, ...]:
    """Score at most `most` of the exam's pictures, of both kinds, under each change. Raises BackendError."""
    chosen = some_of_both(exam.samples, most)
    found = []
    for name, lit in exams_in_light(replace(exam, samples=chosen)):
        say(f"scoring {len(chosen)} pictures of both, {name}")
        found.append(Lighting(name, compare(marks_of(before, lit), marks_of(after, lit))))
    return tuple(found)


def some_of_both(samples: Sequence[Sample], most: int) -> tuple[Sample, ...]:
    """At most `most`, the defective ones first: half of them, and more where good ones are too few."""
    defective = [sample for sample in samples if sample.positive]
    good = [sample for sample in samples if not sample.positive]
    taken = defective[: max(most // 2, most - len(good))]
    return (*taken, *good[: most - len(taken)])


def exams_in_light(exam: Exam) -> Iterator[tuple[str, Exam]]:
    """The same exam under each change of light, by the change's name."""
    for name, gain, offset in CHANGES:
        yield name, replace(exam, samples=tuple(_Lit(sample, gain, offset) for sample in exam.samples))


def table_of(lighting: tuple[Lighting, ...]) -> str:
    """One line a change: AP, FP, FN of both."""
    lines = [f"{'light':<24}  {'AP before':>9}  {'after':>7}  {'FP+FN before':>12}  {'after':>7}"]
    for one in lighting:
        old, new = one.comparison.before.accuracy, one.comparison.after.accuracy
        aps = [f"{value.ap:.4f}" if value.ap is not None else "none" for value in (old, new)]
        errors = [f"{value.fp}+{value.fn}" for value in (old, new)]
        lines.append(f"{one.change:<24}  {aps[0]:>9}  {aps[1]:>7}  {errors[0]:>12}  {errors[1]:>7}")
    return "\n".join(lines)
