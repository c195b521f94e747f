"""Whether a ledger is whole: SQLite's own check, and for every trigger one verdict. Changes nothing.

What it cannot see: parts after the last one that was recorded, as in the last moment before a power cut.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

from segdec_edge.outputs.ledger import FREE_RUNNING
from segdec_edge.outputs.ledger_file import check_version
from segdec_edge.outputs.ledger_read import Reading, reading

CLOCK_TOLERANCE_NS = 1_000_000_000
"""What the clock may go back between two parts of one camera without being told: parts may overtake each other."""
CLOCK_IS_SET_NS = 1_577_836_800_000_000_000
"""1 January 2020: a station's clock that says less was never set."""
_FINDINGS = 100


@dataclass(frozen=True)
class Gap:
    """Triggers first to last, both included, of one camera in one run that have no verdict."""

    run_id: str
    camera: str
    first: int
    last: int

    @property
    def parts(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True)
class Check:
    """What a ledger is like. damage: SQLite's findings; repeated: part ids whose trigger already had a verdict;

    not_judged: pictures of free-running cameras between two parts; clock: where it jumped, in words, and unset how many
    parts were taken before it was set; neither is a loss.
    """

    version: int
    parts: int
    runs: int
    damage: tuple[str, ...]
    gaps: tuple[Gap, ...]
    repeated: tuple[str, ...]
    not_judged: int
    clock: tuple[str, ...]
    unset: int

    @property
    def missing(self) -> int:
        return sum(gap.parts for gap in self.gaps)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is lost, doubled or damaged."""
        return not (self.damage or self.gaps or self.repeated)


@dataclass
class Sequence:
    """The trigger numbers of one camera in one run, in any order; gaps are (first, last) of what did not come yet."""

    next: int = 0
    last_ns: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)

    def add(self, number: int) -> bool:
        """Whether this trigger is a new one."""
        if number >= self.next:
            if number > self.next:
                self.gaps.append((self.next, number - 1))
            self.next = number + 1
            return True
        return self._fill(number)

    def _fill(self, number: int) -> bool:
        place = bisect_right(self.gaps, (number, self.next)) - 1
        if place < 0 or number > self.gaps[place][1]:
            return False
        first, last = self.gaps[place]
        self.gaps[place : place + 1] = [
            part for part in ((first, number - 1), (number + 1, last)) if part[0] <= part[1]
        ]
        return True


def check_ledger(path: Path) -> Check:
    """Read the whole ledger and judge it. Raises OutputError where it is none, or too damaged to be read."""
    with reading(path) as ledger:
        version = check_version(ledger.database, path)
        found = [line for (line,) in ledger.database.execute(f"PRAGMA integrity_check({_FINDINGS})")]
        damage = tuple(" ".join(line.split()) for line in found if line != "ok")
        return Check(version, 0, 0, damage, (), (), 0, (), 0) if damage else _walk(ledger, version)


def _walk(ledger: Reading, version: int) -> Check:
    free = _free_running(ledger)
    cameras: dict[tuple[str, str], Sequence] = {}
    repeated: list[str] = []
    clock: list[str] = []
    parts = unset = 0
    for _, part_id, run_id, camera, sequence, captured_ns in ledger.stream(
        "number, part_id, run_id, camera, sequence, captured_ns", "parts"
    ):
        parts += 1
        unset += captured_ns < CLOCK_IS_SET_NS
        seen = cameras.setdefault((run_id, camera), Sequence())
        if not seen.add(sequence):
            repeated.append(part_id)
        if captured_ns < seen.last_ns - CLOCK_TOLERANCE_NS and len(clock) < _FINDINGS:
            clock.append(f"part {part_id}: the clock went back by {(seen.last_ns - captured_ns) / 1e9:.1f} s")
        seen.last_ns = captured_ns
    gaps = [Gap(*key, *gap) for key, seen in cameras.items() if key not in free for gap in seen.gaps]
    skipped = sum(last - first + 1 for key, seen in cameras.items() if key in free for first, last in seen.gaps)
    runs = len({run_id for run_id, _ in cameras})
    return Check(version, parts, runs, (), tuple(gaps), tuple(repeated), skipped, tuple(clock), unset)


def _free_running(ledger: Reading) -> set[tuple[str, str]]:
    said = ledger.stream("number, run_id, camera", "events", "kind = ?", (FREE_RUNNING,))
    return {(run_id, camera) for _, run_id, camera in said}
