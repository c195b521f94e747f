"""A record against an earlier one: what became slower or less accurate by more than the noise. Times nothing.

The rule. Per line the ratio of the two medians of infer() has a 95 % interval, from the spread of whole sittings in
either run. Slower means that the whole interval lies beyond the tolerance (5 % where nothing else is said): two runs
cannot know how much the machine changed between them, so the tolerance is for that, and the interval for what happened
within. Less accurate means, on the same pictures: more defects missed, more good parts rejected, or over 0.1 points of
AP less; there is no noise in these. What got better is told and is no regression.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from segdec_edge.bench.record import BenchRecord, Line, Machine
from segdec_edge.bench.stages import INFER
from segdec_edge.deploy.gate import MAX_AP_DROP
from segdec_edge.errors import ConfigError
from segdec_edge.timing import Floats, Interval, cluster_error, student

TOLERANCE = 0.05
_SAME_MACHINE = ("cpu", "cores", "gpus", "board")
_ALIKE = 3


@dataclass(frozen=True)
class Change:
    """One line in both records. slower: new over old latency, above 1 where it became slower."""

    key: str
    slower: Interval
    regressions: tuple[str, ...]

    def in_words(self) -> str:
        one = self.slower
        span = "" if one.low is None else f" ({one.low:.2f} to {one.high:.2f})"
        verdict = "; ".join(self.regressions) or "no regression"
        return f"{self.key}: {one.ratio:.2f}{span} times the old latency: {verdict}"


@dataclass(frozen=True)
class Comparison:
    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    @property
    def regressed(self) -> bool:
        return any(change.regressions for change in self.changes)


def compare(old: BenchRecord, new: BenchRecord, tolerance: float = TOLERANCE, anyway: bool = False) -> Comparison:
    """Every line that both have. anyway: also of other machines and artefacts. Raises ConfigError where not."""
    earlier = {line.key: line for line in old.lines}
    pairs = [(earlier[line.key], line) for line in new.lines if line.key in earlier]
    differences = [*_before_any(old, new.machine, new.settings.threads, new.settings.untimed), *_artefacts(pairs)]
    if not pairs:
        raise ConfigError("--baseline: no form with this name, backend and batch is in it. Bench the same ones.")
    if not anyway:
        _refuse(differences)
    changes = tuple(_change(before, after, old, new, tolerance) for before, after in pairs)
    return Comparison(changes, (*differences, *_notes(old, new, changes)))


def require_comparable(old: BenchRecord, machine: Machine, threads: int | None, untimed: int) -> None:
    """What can be said before anything is timed. untimed: calls of a turn. Raises ConfigError."""
    _refuse(_before_any(old, machine, threads, untimed))


def _refuse(differences: Sequence[str]) -> None:
    if differences:
        raise ConfigError(
            f"--baseline: {'; '.join(differences)}: a difference in time would say nothing. Compare them all the same:"
            " --anyway"
        )


def slower_by(before: Line, after: Line) -> Interval:
    """New over old latency. The two runs are independent: their errors add up in squares."""
    return slower_samples(np.array(before.samples[INFER]), np.array(after.samples[INFER]))


def slower_samples(before: Floats, after: Floats) -> Interval:
    """As slower_by, from milliseconds (sittings, calls)."""
    logs = [np.log(before), np.log(after)]
    centre = float(np.median(logs[1]) - np.median(logs[0]))
    errors = [cluster_error(one) for one in logs]
    if any(error is None for error in errors):
        return Interval(math.exp(centre), None, None)
    reach = student(min(map(len, logs)) - 1) * math.hypot(*(error or 0.0 for error in errors))
    return Interval(math.exp(centre), math.exp(centre - reach), math.exp(centre + reach))


def _change(before: Line, after: Line, old: BenchRecord, new: BenchRecord, tolerance: float) -> Change:
    slower = slower_by(before, after)
    lost = []
    if slower.low is not None and slower.low > 1 + tolerance:
        lost.append(f"SLOWER, beyond {100 * tolerance:g} % and beyond the noise")
    if (old.settings.data, old.settings.subset) == (new.settings.data, new.settings.subset):
        lost.extend(_less_accurate(before, after))
    return Change(after.key, slower, tuple(lost))


def _less_accurate(before: Line, after: Line) -> list[str]:
    was, now = before.accuracy, after.accuracy
    if was is None or now is None or was.fn is None or was.pictures != now.pictures:
        return []
    if now.fn is None or now.fp is None or was.fp is None:
        return [f"CANNOT BE SCORED ANY MORE: {now.unknown}"]
    lost = []
    if now.fn > was.fn:
        lost.append(f"{now.fn} DEFECTS MISSED after {was.fn}")
    if now.fp > was.fp:
        lost.append(f"{now.fp} GOOD PARTS REJECTED after {was.fp}")
    if was.ap is not None and now.ap is not None and 100 * (was.ap - now.ap) > MAX_AP_DROP:
        lost.append(f"AP {now.ap:.4f} after {was.ap:.4f}")
    return lost


def _before_any(old: BenchRecord, machine: Machine, threads: int | None, untimed: int) -> list[str]:
    found = [
        f"another machine ({name} {getattr(machine, name)}, before {getattr(old.machine, name)})"
        for name in _SAME_MACHINE
        if getattr(machine, name) != getattr(old.machine, name)
    ]
    if old.settings.threads != threads:
        found.append(f"other --threads ({threads}, before {old.settings.threads})")
    if (old.settings.untimed > 0) != (untimed > 0):
        found.append("other turns (the first call of a turn is timed in one of them, --cold)")
    return found


def _artefacts(pairs: Sequence[tuple[Line, Line]]) -> list[str]:
    changed = [after.key for before, after in pairs if (before.sha256, before.size_hw) != (after.sha256, after.size_hw)]
    return [f"another file under the same name ({', '.join(changed)})"] if changed else []


def _notes(old: BenchRecord, new: BenchRecord, changes: Sequence[Change]) -> list[str]:
    was, now = old.code.versions, new.code.versions
    updated = [f"{name} {was.get(name, 'none')} → {now[name]}" for name in now if was.get(name) != now[name]]
    notes = [f"other versions: {', '.join(updated)}"] if updated else []
    gone = {line.key for line in old.lines} - {line.key for line in new.lines}
    if gone:
        notes.append(f"not measured this time: {', '.join(sorted(gone))}")
    ratios = [change.slower.ratio for change in changes]
    middle = median(ratios)
    if len(ratios) >= _ALIKE and abs(middle - 1) > TOLERANCE and max(ratios) / min(ratios) < 1 + 2 * TOLERANCE:
        notes.append(f"all of them changed alike (by {middle:.2f}): rather the machine's state than one form's code")
    doubtful = [name for name, record in (("baseline", old), ("new", new)) if record.flags]
    if doubtful:
        notes.append(f"doubts are noted in the {' and the '.join(doubtful)} record: {(new.flags or old.flags)[0]}")
    return notes
