"""A record against an earlier one: what became slower or less accurate by more than the noise. Times nothing.

The rule. A figure is the ratio of two medians, new over old, with a 95 % interval from the spread of whole sittings (of
whole windows for pictures/s) in either run, widened so that all figures compared together hold as often (Bonferroni).
Worse means that the whole interval lies beyond the tolerance (5 % where nothing else is said): two runs cannot know how
much the machine changed between them, so the tolerance is for that, and the interval for what happened within. Figures
are a call's latency, the same against the reference form of its own run, pictures/s, and loading.

Where the reference itself became slower, all others by the same factor within their intervals, and no runtime has
another version, it was the machine (or what all share): it is told and is no regression. A form that became slower
than the reference of its own run is one, however fast the machine is.

Less accurate means, on the same pictures: more defects missed, more good parts rejected, or over 0.1 points of AP less;
there is no noise in these. A form that ran before and does not now is a regression where it was asked for. What got
better is told and is no regression; what is not compared is told too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from segdec_edge.bench.record import BenchRecord, Line, Machine, NotRun
from segdec_edge.bench.stages import INFER
from segdec_edge.deploy.gate import MAX_AP_DROP
from segdec_edge.errors import ConfigError
from segdec_edge.timing import Floats, Interval, cluster_error, student

TOLERANCE = 0.05
FEWEST_SITTINGS = 2
RATE, LOADING = "FEWER PICTURES A SECOND", "LOADS SLOWER"
_SAME_MACHINE = ("cpu", "cores", "gpus", "board")
_NOT_COMPARED = "not compared: first verdict and memory (measured once a run), p99, prepare"


@dataclass(frozen=True)
class Change:
    """One line in both records. slower: new over old latency, above 1 where it became slower; against: the same of
    its ratio to the reference form, None for that form itself; others: of RATE and LOADING, above 1 where worse."""

    key: str
    slower: Interval
    regressions: tuple[str, ...]
    against: Interval | None = None
    over: str = ""
    others: Mapping[str, Interval] = field(default_factory=dict)

    def in_words(self) -> str:
        verdict = "; ".join(self.regressions) or "no regression"
        own = f" ({_span(self.against)} against {self.over})" if self.against else ""
        return f"{self.key}: {_span(self.slower)} times the old latency{own}: {verdict}"


@dataclass(frozen=True)
class Comparison:
    """gone: forms that ran before and were asked for, and why they did not run."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...]
    gone: tuple[str, ...] = ()

    @property
    def regressed(self) -> bool:
        return bool(self.gone) or any(change.regressions for change in self.changes)

    def in_words(self) -> list[str]:
        return [*(change.in_words() for change in self.changes), *self.gone, *self.notes]


@dataclass(frozen=True)
class _Runs:
    """Logarithms of one figure in both runs, (sittings, calls); minus: of the reference form in the same runs."""

    before: Floats
    after: Floats
    minus: tuple[Floats, Floats] | None = None

    def interval(self, compared: int) -> Interval:
        """The two runs are independent: their errors add up in squares."""
        minus = self.minus or (None, None)
        centres = [_centre(*one) for one in ((self.before, minus[0]), (self.after, minus[1]))]
        errors = [cluster_error(self.before, minus[0]), cluster_error(self.after, minus[1])]
        centre = centres[1] - centres[0]
        if any(error is None for error in errors):
            return Interval(math.exp(centre), None, None)
        freedom = min(len(self.before), len(self.after)) - 1
        reach = student(freedom, compared) * math.hypot(*(error or 0.0 for error in errors))
        return Interval(math.exp(centre), math.exp(centre - reach), math.exp(centre + reach))


def compare(old: BenchRecord, new: BenchRecord, tolerance: float = TOLERANCE, anyway: bool = False) -> Comparison:
    """Every line that both have. anyway: also of other machines and artefacts. Raises ConfigError where not, and where
    a run has one sitting."""
    require_rule(tolerance, sittings_of(old), sittings_of(new))
    earlier, later = ({line.key: line for line in record.lines} for record in (old, new))
    pairs = [(earlier[line.key], line) for line in new.lines if line.key in earlier]
    differences = [*_before_any(old, new.machine, new.settings.threads, new.settings.untimed), *_artefacts(pairs)]
    if not pairs:
        raise ConfigError("--baseline: no form with this name, backend and batch is in it. Bench the same ones.")
    if not anyway:
        _refuse(differences)
    asked = [_asked(before, after, earlier, later) for before, after in pairs]
    compared = sum(map(len, asked))
    found = [{name: runs.interval(compared) for name, runs in one.items()} for one in asked]
    raw = [_change(after, intervals) for (_, after), intervals in zip(pairs, found, strict=True)]
    updated = _updated(old, new)
    together = None if updated else _together(raw, tolerance)
    same_data = (old.settings.data, old.settings.subset) == (new.settings.data, new.settings.subset)
    changes = tuple(
        _judged(change, tolerance, together, not updated, _less_accurate(*pair) if same_data else [])
        for change, pair in zip(raw, pairs, strict=True)
    )
    gone, left_out = _gone(old, new)
    notes = [
        *differences,
        f"{compared} figures compared: each interval is one of 95 % for all of them together (Bonferroni)",
        *_machine_note(together),
        *updated,
        *left_out,
        *_accuracy_notes(pairs, old, new),
        *_notes(pairs, found),
        *_doubts(old, new),
    ]
    return Comparison(changes, tuple(notes), gone)


def require_comparable(old: BenchRecord, machine: Machine, threads: int | None, untimed: int) -> None:
    """What can be said before anything is timed. untimed: calls of a turn. Raises ConfigError."""
    _refuse(_before_any(old, machine, threads, untimed))


def require_rule(tolerance: float, *sittings: int) -> None:
    """Raise ConfigError where no slowdown could ever be told: too few sittings in either run, or no limit."""
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ConfigError(f"--tolerance {100 * tolerance:g}, wanted percent, 0 or more and finite.")
    if min(sittings) < FEWEST_SITTINGS:
        raise ConfigError(
            f"--baseline: {min(sittings)} sitting in one of the two runs, wanted {FEWEST_SITTINGS} or more in both:"
            " one says nothing of the noise. Bench with --sittings 6, the baseline too."
        )


def sittings_of(record: BenchRecord) -> int:
    """The fewest of any line; 0 without lines."""
    return min((len(line.samples[INFER]) for line in record.lines), default=0)


def slower_samples(before: Floats, after: Floats) -> Interval:
    """New over old latency, from milliseconds (sittings, calls)."""
    return _Runs(np.log(before), np.log(after)).interval(1)


def _refuse(differences: Sequence[str]) -> None:
    if differences:
        raise ConfigError(
            f"--baseline: {'; '.join(differences)}: a difference in time would say nothing. Compare them all the same:"
            " --anyway"
        )


def _centre(values: Floats, minus: Floats | None) -> float:
    return float(np.median(values) - (0.0 if minus is None else np.median(minus)))


def _asked(before: Line, after: Line, earlier: Mapping[str, Line], later: Mapping[str, Line]) -> dict[str, _Runs]:
    """What is compared of a line, by figure."""
    runs = _Runs(_logs(before), _logs(after))
    asked = {INFER: runs}
    over = after.ratio.over if after.ratio else ""
    if before.ratio and before.ratio.over == over and over in earlier and over in later:
        references = earlier[over], later[over]
        if len({(one.sha256, one.size_hw) for one in references}) == 1:
            asked[over] = _Runs(runs.before, runs.after, (_logs(references[0]), _logs(references[1])))
    rates = [_rates_of(before, before), _rates_of(after, before)]
    loads = [before.cost.load_samples_ms, after.cost.load_samples_ms]
    for name, (was, now), sign in ((RATE, rates, -1), (LOADING, loads, 1)):
        if min(len(was), len(now)) >= FEWEST_SITTINGS and min(*was, *now) > 0:
            logs = [sign * np.log(np.array(one, np.float64))[:, None] for one in (was, now)]
            asked[name] = _Runs(logs[0], logs[1])
    return asked


def _rates_of(line: Line, before: Line) -> Sequence[float]:
    """Pictures a second, a window each, in the way that was the better one before."""
    if line.throughput is None or before.throughput is None:
        return ()
    ways = {**line.throughput.others, line.throughput.how: line.throughput.samples}
    return ways.get(before.throughput.how, ())


def _logs(line: Line) -> Floats:
    return np.log(np.array(line.samples[INFER], np.float64))


def _change(after: Line, intervals: Mapping[str, Interval]) -> Change:
    others = {name: one for name, one in intervals.items() if name in (RATE, LOADING)}
    over = next((name for name in intervals if name not in (INFER, RATE, LOADING)), "")
    return Change(after.key, intervals[INFER], (), intervals.get(over), over, others)


def _together(changes: Sequence[Change], tolerance: float) -> float | None:
    """By how much all forms became slower together, the reference included; None where they did not."""
    references = {change.over for change in changes if change.against}
    first = [change for change in changes if change.key in references]
    rest = [change for change in changes if change.key not in references]
    ratios = [change.slower.ratio for change in changes]
    if not first or any(change.against is None or _beyond(change.against, tolerance) for change in rest):
        return None
    if not all(_beyond(change.slower, tolerance) for change in first) or max(ratios) / min(ratios) > 1 + 2 * TOLERANCE:
        return None
    return median(ratios)


def _beyond(interval: Interval, tolerance: float, factor: float = 1.0) -> bool:
    return interval.low is not None and interval.low > factor * (1 + tolerance)


def _judged(change: Change, tolerance: float, together: float | None, trust: bool, lost: Sequence[str]) -> Change:
    """trust: the reference form has the same runtime as before, so it can tell the machine's state."""
    limit, found = f"beyond {100 * tolerance:g} % and beyond the noise", []
    if together is None and _beyond(change.slower, tolerance):
        found.append(f"SLOWER, {limit}")
    elif change.against and trust and _beyond(change.against, tolerance):
        found.append(f"SLOWER against {change.over} of the same run, {limit}")
    for name, one in change.others.items():
        if _beyond(one, tolerance, together or 1.0):
            found.append(f"{name}, {_span(one)} times worse, {limit}")
    return Change(change.key, change.slower, (*found, *lost), change.against, change.over, change.others)


def _less_accurate(before: Line, after: Line) -> list[str]:
    was, now = before.accuracy, after.accuracy
    if was is None or was.fn is None or was.fp is None:
        return []
    if now is None or now.fn is None or now.fp is None:
        return [f"CANNOT BE SCORED ANY MORE: {now.unknown if now else 'it was not tried'}"]
    if was.pictures != now.pictures:
        return []
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


def _gone(old: BenchRecord, new: BenchRecord) -> tuple[tuple[str, ...], list[str]]:
    """What ran before and does not now: regressions where it was asked for, else a note."""
    now = {line.key for line in new.lines}
    missing = [line for line in old.lines if line.key not in now]
    reasons = {line.key: _refusal(line, new.not_run) for line in missing}
    gone = tuple(f"{key}: DOES NOT RUN ANY MORE: {reason}" for key, reason in reasons.items() if reason)
    rest = sorted(key for key, reason in reasons.items() if not reason)
    return gone, [f"not asked for, so not compared: {', '.join(rest)}"] if rest else []


def _refusal(line: Line, not_run: Iterable[NotRun]) -> str:
    """Why a line of before was tried in vain; empty where it was not asked for."""
    for one in not_run:
        same = line.backend == one.backend or line.backend.startswith(f"{one.backend}/")
        if one.asked and same and one.name == line.name and one.batch in (None, line.batch):
            return one.reason
    return ""


def _updated(old: BenchRecord, new: BenchRecord) -> list[str]:
    was, now = old.code.versions, new.code.versions
    names = dict.fromkeys((*was, *now))
    updated = [
        f"{name} {was.get(name, 'none')} → {now.get(name, 'none')}" for name in names if was.get(name) != now.get(name)
    ]
    return [f"other versions: {', '.join(updated)}"] if updated else []


def _machine_note(together: float | None) -> list[str]:
    if together is None:
        return []
    return [
        f"ALL of them, the reference included, became slower alike (by {together:.2f}): the machine's state, or what"
        " all of them share, and not one form. No regression in latency; bench again on a machine as it was, to be sure"
    ]


def _accuracy_notes(pairs: Sequence[tuple[Line, Line]], old: BenchRecord, new: BenchRecord) -> list[str]:
    """Why accuracy was not compared, where it was not."""
    was, now = ((one.settings.data, one.settings.subset) for one in (old, new))
    if was != now or now[0] is None:
        told = [f"{data} {subset}" if data else "no --data" for data, subset in (was, now)]
        return [f"ACCURACY NOT COMPARED: {told[1]}, before {told[0]}. Give the baseline's --data and --subset"]
    notes = []
    for before, after in pairs:
        counts = [one.accuracy.pictures if one.accuracy else None for one in (before, after)]
        if counts[0] is None:
            notes.append(f"ACCURACY NOT COMPARED: {after.key} was not scored before")
        elif counts[1] is not None and counts[0] != counts[1]:
            notes.append(f"ACCURACY NOT COMPARED: {after.key} on {counts[1]} pictures, before on {counts[0]}")
    return notes


def _notes(pairs: Sequence[tuple[Line, Line]], found: Sequence[Mapping[str, Interval]]) -> list[str]:
    """Which figures were not compared."""
    notes = []
    for name, title in ((RATE, "pictures/s"), (LOADING, "load time")):
        without = [after.key for (_, after), one in zip(pairs, found, strict=True) if name not in one]
        if without:
            notes.append(f"{title} not compared, not measured the same way in both: {', '.join(without)}")
    return [*notes, _NOT_COMPARED]


def _doubts(old: BenchRecord, new: BenchRecord) -> list[str]:
    doubtful = [name for name, record in (("baseline", old), ("new", new)) if record.flags]
    if not doubtful:
        return []
    return [f"doubts are noted in the {' and the '.join(doubtful)} record: {(new.flags or old.flags)[0]}"]


def _span(one: Interval) -> str:
    return f"{one.ratio:.2f}" if one.low is None else f"{one.ratio:.2f} ({one.low:.2f} to {one.high:.2f})"
