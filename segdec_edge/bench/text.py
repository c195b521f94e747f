"""A record as text: the table for the terminal and for a README, one line a form, and what must be known with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from segdec_edge.bench.record import BenchRecord, Line, NotRun, Settings

NOTHING = "–"
P99_CALLS = 100
"""Fewer have no 99th percentile but their largest."""


@dataclass(frozen=True)
class Column:
    """title; cell: a line's text, NOTHING where it is not known; value: what it is sorted by."""

    title: str
    cell: Callable[[Line], str]
    value: Callable[[Line], float | str | None]


def _number(get: Callable[[Line], float | None], digits: int) -> Callable[[Line], str]:
    def cell(line: Line) -> str:
        value = get(line)
        return NOTHING if value is None else f"{value:.{digits}f}"

    return cell


def _numeric(title: str, get: Callable[[Line], float | None], digits: int = 1) -> Column:
    return Column(title, _number(get, digits), get)


def _stage(name: str) -> Callable[[Line], float | None]:
    return lambda line: line.stages.get(name)


def ratio_words(line: Line) -> str:
    """2.0 (1.9 to 2.1); "= 1" behind it where the interval holds 1: no difference was shown."""
    ratio = line.ratio
    if ratio is None:
        return "1"
    if ratio.low is None or ratio.high is None:
        return f"{ratio.times_faster:.2f}"
    same = " ≈ 1" if ratio.low <= 1 <= ratio.high else ""
    return f"{ratio.times_faster:.2f} ({ratio.low:.2f} to {ratio.high:.2f}){same}"


def _accuracy(name: str) -> Callable[[Line], float | None]:
    return lambda line: None if line.accuracy is None else getattr(line.accuracy, name)


NAMES = (
    Column("form", lambda line: line.name, lambda line: line.name),
    Column("backend", lambda line: line.backend, lambda line: line.backend),
    Column("precision", lambda line: line.precision, lambda line: line.precision),
)
BATCH = _numeric("batch", lambda line: line.batch, 0)
WHAT = (*NAMES, BATCH)
P50 = _numeric("p50 ms", lambda line: line.latency.p50, 2)
P99 = _numeric("p99", lambda line: line.latency.p99 if line.latency.count >= P99_CALLS else None, 2)
FASTER = Column("times faster (95 %)", ratio_words, lambda line: line.ratio.times_faster if line.ratio else 1.0)
RATE = _numeric("pictures/s", lambda line: line.throughput.pictures_per_s if line.throughput else None)
HOW_FAST = (
    P50,
    _numeric("p90", lambda line: line.latency.p90, 2),
    _numeric("p95", lambda line: line.latency.p95, 2),
    P99,
    _numeric("max", lambda line: line.latency.max, 2),
    FASTER,
    RATE,
)
SUMMED = (P50, P99, FASTER, RATE)
HOW_GOOD = (
    _numeric("AP", _accuracy("ap"), 4),
    _numeric("FP", _accuracy("fp"), 0),
    _numeric("FN", _accuracy("fn"), 0),
    _numeric("verdicts changed", _accuracy("verdicts_changed"), 0),
)
STAGES = (
    _numeric("prepare ms", _stage("prepare"), 3),
    _numeric("copy in", _stage("copy_in"), 3),
    _numeric("infer (host)", _stage("infer"), 2),
    _numeric("device", _stage("device"), 2),
    _numeric("copy out", _stage("copy_out"), 3),
    _numeric("decide", _stage("decide"), 3),
)
SIZE = (
    _numeric("MB", lambda line: line.size_bytes / 1e6),
    _numeric("GFLOP a picture", lambda line: line.operations / line.batch / 1e9 if line.operations else None, 2),
)
COSTS = (
    _numeric("build s", lambda line: line.build_seconds, 0),
    _numeric("load ms", lambda line: line.cost.load_ms, 0),
    _numeric("first verdict ms", lambda line: line.cost.first_verdict_ms, 0),
    _numeric("host MiB", lambda line: line.cost.host_mib, 0),
    _numeric("GPU MiB", lambda line: line.cost.gpu_mib, 0),
    _numeric("J a picture", lambda line: line.throughput.joules_per_picture if line.throughput else None, 3),
)
FLOOR = (
    _numeric("floor ms", lambda line: line.floor.floor_ms if line.floor else None, 2),
    _numeric("% of peak", lambda line: 100 * line.floor.achieved if line.floor else None, 0),
)
FIRST = (*WHAT, *SIZE, *HOW_FAST, *HOW_GOOD)
SECOND = (*WHAT, *STAGES, *COSTS, *FLOOR)
FLOORS_ELSEWHERE = (
    "Floors on boards that are not here, ms a batch: arithmetic and memory at the peaks that segdec predict names, as"
    " the file is, what stays FP32 at the FP16 peak. Nothing was measured there; no engine can be faster."
)
ALL = (*FIRST, *STAGES, *COSTS, *FLOOR)


def columns_of(lines: Sequence[Line], columns: Sequence[Column] = ALL) -> list[Column]:
    """Those of which at least one line knows something, and p99, so that nobody takes the largest call for it."""
    return [column for column in columns if column is P99 or any(column.cell(line) != NOTHING for line in lines)]


def elsewhere(lines: Sequence[Line]) -> tuple[list[Line], list[Column]]:
    """Each counted artefact once, and its floor on every board that was known; both empty where none is."""
    once = {(line.name, line.batch, line.precision): line for line in reversed(lines) if line.board_floors_ms}
    told = [line for line in lines if line in once.values()]
    boards = dict.fromkeys(name for line in told for name in line.board_floors_ms)
    return told, [*(() if not told else (NAMES[0], NAMES[2], BATCH)), *(_board(name) for name in boards)]


def _board(name: str) -> Column:
    return _numeric(name, lambda line: line.board_floors_ms.get(name), 3)


def markdown(record: BenchRecord) -> str:
    """Tables and notes as Markdown: generated, so that no figure is ever typed."""
    told, boards = elsewhere(record.lines)
    tables = [_table(record.lines, columns_of(record.lines, columns)) for columns in (FIRST, SECOND)]
    if told:
        tables.append(f"{FLOORS_ELSEWHERE}\n\n{_table(told, boards)}")
    return "\n\n".join(tables) + "\n\n" + "\n".join(f"- {note}" for note in notes(record)) + "\n"


def summary(record: BenchRecord) -> str:
    """One table and what it was measured on, as Markdown, for a README."""
    batch = [] if {line.batch for line in record.lines} == {1} else [BATCH]
    columns = columns_of(record.lines, (*NAMES, *batch, *SIZE, *SUMMED, *HOW_GOOD))
    size = " and ".join(dict.fromkeys(f"{line.size_hw[0]}×{line.size_hw[1]}" for line in record.lines))
    told = [f"Input {size}. {notes(record)[2]}", *notes(record)[3:]]
    return _table(record.lines, columns) + "\n\n" + "\n".join(f"- {note}" for note in told) + "\n"


def in_words(record: BenchRecord) -> str:
    """For the terminal: the table, aligned, then what did not run and what is doubtful."""
    columns = columns_of(record.lines, (*WHAT, *HOW_FAST, *HOW_GOOD))
    rows = [[column.title for column in columns], *([column.cell(line) for column in columns] for line in record.lines)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(columns))]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*table, "", *refusals(record.not_run), *notes(record)])


def notes(record: BenchRecord) -> list[str]:
    """What the figures mean and how far they can be trusted."""
    machine, settings, code = record.machine, record.settings, record.code
    state = "" if code.commit is None else f", commit {code.commit[:12]}{' with changes' if code.dirty else ''}"
    versions = ", ".join(f"{name} {found}" for name, found in code.versions.items())
    lines = [
        record.timed,
        record.not_timed,
        f"{settings.rounds} rounds in {settings.sittings} sittings, all forms in turns, order shuffled (seed"
        f" {settings.seed}). {turn_words(settings)} Pictures: {settings.pictures}.",
        f"{machine.board or machine.cpu}, {machine.cores} cores, {'; '.join(machine.gpus) or 'no GPU'};"
        f" segdec-edge {code.segdec_edge}{state}; {versions}.",
    ]
    few = sorted({line.latency.count for line in record.lines if line.latency.count < P99_CALLS})
    if few:
        lines.append(f"p99 needs {P99_CALLS} calls, there were {' and '.join(map(str, few))}.")
    lines.extend(_exam_words(record))
    ratios = [line.ratio.over for line in record.lines if line.ratio]
    if ratios:
        over = " and ".join(dict.fromkeys(ratios))
        lines.append(
            f"Times faster: a picture, than {over}: the ratio of the two p50, its interval from whole sittings."
        )
    how = {line.throughput.how for line in record.lines if line.throughput}
    if how:
        lines.append(f"Pictures/s, flat out, the better of the ways tried: {'; '.join(sorted(how))}.")
    changed = {line.accuracy.over for line in record.lines if line.accuracy and line.accuracy.over}
    if changed:
        lines.append(f"Verdicts changed: against {' and '.join(sorted(changed))}, at each file's own threshold.")
    unknown = [
        f"{line.key}: {line.accuracy.unknown}" for line in record.lines if line.accuracy and line.accuracy.unknown
    ]
    doubts = [f"{line.key}: {flag}." for line in record.lines for flag in line.flags]
    return [*lines, *(f"DOUBT: {flag.rstrip('.')}." for flag in record.flags), *doubts, *unknown]


def _exam_words(record: BenchRecord) -> list[str]:
    """On how many pictures accuracy was measured."""
    scored = [line.accuracy for line in record.lines if line.accuracy and line.accuracy.pictures is not None]
    subset = f"{record.settings.subset} " if record.settings.subset else ""
    told = dict.fromkeys(
        f"{one.pictures} {subset}pictures, "
        + ("how many defective is not recorded" if one.defective is None else f"{one.defective} defective")
        for one in scored
    )
    return [f"AP, FP, FN: {words}." for words in told]


def turn_words(settings: Settings) -> str:
    """What is timed in a turn."""
    if settings.untimed:
        return (
            "Before each turn the threads of the one before have gone to sleep; the turn's first call is not timed, the"
            f" next {settings.calls} {'is' if settings.calls == 1 else 'are'}: as on a line, where the same model runs"
            " part after part."
        )
    return "COLD: the first call of each turn is timed, with the caches full of the other forms' data."


def refusals(not_run: Sequence[NotRun]) -> list[str]:
    """What did not run, the same reason once."""
    by_reason: dict[str, list[str]] = {}
    for one in not_run:
        batch = "" if one.batch is None else f" b{one.batch}"
        by_reason.setdefault(one.reason.rstrip("."), []).append(f"{one.name} {one.backend}{batch}")
    return [f"not run: {', '.join(names)}: {reason}." for reason, names in by_reason.items()]


def _table(lines: Sequence[Line], columns: Sequence[Column]) -> str:
    rows = ["| " + " | ".join(column.title for column in columns) + " |", "|" + "---|" * len(columns)]
    rows += ["| " + " | ".join(column.cell(line).replace("|", "/") for column in columns) + " |" for line in lines]
    return "\n".join(rows)
