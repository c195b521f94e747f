"""What a benchmark leaves behind: a versioned JSON record with every raw sample. Knows no clock and no runtime.

All times in milliseconds of the host's monotonic clock unless a name says device; memory in MiB; energy in joules. A
field that this machine does not tell is None, never 0. No path is kept, only names and hashes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field, ValidationError

from segdec_edge.bundle import Size
from segdec_edge.errors import ConfigError
from segdec_edge.files import write_atomic
from segdec_edge.record import Record

FORMAT = 1
Positive = Annotated[float, Field(gt=0)]
_Row = Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)]


def _rectangular(rows: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"sittings of {min(map(len, rows))} to {max(map(len, rows))} calls, wanted as many in each")
    return rows


def _timed(by_stage: Mapping[str, Samples]) -> Mapping[str, Samples]:
    rows = by_stage.get("infer")
    if rows is None or not all(one > 0 for row in rows for one in row):
        raise ValueError("infer: none, or a call of 0 ms, wanted milliseconds above 0")
    return by_stage


Samples = Annotated[tuple[_Row, ...], Field(min_length=1), AfterValidator(_rectangular)]
"""One tuple a sitting (everything opened anew), one number a timed call in it, round after round."""

TIMED = (
    "Latency is the host's time of one infer() call on pictures that were prepared a moment before, as on the line:"
    " pixels in the host's memory in, score and heat map in the host's memory out, copies to and from a GPU included."
)
NOT_TIMED = (
    "Not in the latency: camera and decoding, preparing the picture (resize, grey, contrast check) and deciding, which"
    " are stages of their own; loading; the ledger and outputs. Cast and scaling are in the graph, so they are in it."
    " Copies have a stage of their own only where the device tells their time."
)


class Machine(Record):
    """What does not change during a run. cores: those that this process may use."""

    cpu: str
    cores: int
    features: tuple[str, ...]
    memory_gib: float | None
    gpus: tuple[str, ...]
    board: str | None
    jetpack: str | None
    system: str


class Conditions(Record):
    """The machine at one moment. clocks_mhz: lowest, mean and highest core; counters: events since boot that slow a
    machine down (thermal throttling, the container's CPU limit, time stolen by other machines of a host), by name."""

    when: AwareDatetime
    load: tuple[float, float, float] | None
    governor: str | None
    clocks_mhz: tuple[float, float, float] | None
    power_mode: str | None
    temperature_c: float | None
    gpu: Mapping[str, float | str] | None
    counters: Mapping[str, float] = {}


class Code(Record):
    """commit, dirty: of the checkout that the package runs from, None where it is installed."""

    segdec_edge: str
    commit: str | None
    dirty: bool | None
    python: str
    versions: Mapping[str, str]


class Settings(Record):
    """What was asked for, and what the timed pictures were, in words. A turn is so many untimed calls, then `calls`
    timed ones; no untimed call: what the first call costs after the others had their turn."""

    rounds: int
    sittings: int
    warm_up: int
    untimed: int = 0
    calls: int = 1
    seed: int
    threads: int | None
    pictures: str
    source_hw: Size
    data: str | None = None
    subset: str | None = None
    window_s: float = 0.0


class Quantiles(Record):
    """Of all samples; a percentile is the nearest sample at or above it, so that p99 of fewer than 100 is the max."""

    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    count: int


class Ratio(Record):
    """How many times faster than the line `over`, a picture; low, high: the 95 % interval, both None where one sitting
    cannot tell."""

    over: str
    times_faster: Positive
    low: Positive | None
    high: Positive | None


class Accuracy(Record):
    """How this artefact did on this backend; or why that is not known, in words.

    verdicts_changed, scores_apart: against the form `over` on the same pictures; the latter is the root mean square of
    the logits' differences. defective: of the pictures; None in older records.
    """

    ap: float | None = None
    fp: int | None = None
    fn: int | None = None
    pictures: int | None = None
    defective: int | None = None
    threshold: float | None = None
    over: str = ""
    verdicts_changed: int | None = None
    scores_apart: float | None = None
    unknown: str = ""


class Throughput(Record):
    """Pictures a second, flat out, in the way that gave the most. how: what was in flight; samples: one a window;
    others: samples of the other ways, by how."""

    pictures_per_s: Positive
    how: str
    samples: tuple[float, ...]
    others: Mapping[str, tuple[float, ...]] = {}
    joules_per_picture: float | None = None
    energy_source: str = ""


class Cost(Record):
    """What opening costs. first_verdict_ms: from starting a new process to its first decision; load_ms: opening alone;
    host_mib: that process's peak memory, before_mib: before it opened anything; gpu_mib as the driver tells."""

    load_ms: float | None = None
    first_verdict_ms: float | None = None
    import_ms: float | None = None
    host_mib: float | None = None
    before_mib: float | None = None
    gpu_mib: float | None = None
    load_samples_ms: tuple[float, ...] = ()


class Floor(Record):
    """operations: of one batch; bytes: what has to move if every layer's input and output goes through memory.

    floor_ms: the least time at the measured (or stated) peaks, nothing but convolutions and matrix products counted and
    everything kept in caches that can be; layers_ms: layer by layer, each through memory; achieved: floor_ms over the
    median latency; ceiling: where the peaks come from.
    """

    operations: int
    bytes: int
    compulsory_bytes: int
    floor_ms: float
    layers_ms: float
    achieved: float
    bound: Literal["compute", "memory"]
    ceiling: str


class Line(Record):
    """One artefact on one backend at one batch size. samples: by stage, each as Samples; precision as the file says;
    operations: of one batch's convolutions and matrix products, 2 a multiply-add, whatever their precision;
    board_floors_ms: the floor of one batch at stated peaks, by the board's name for segdec predict."""

    key: str
    name: str
    backend: str
    batch: int
    precision: str
    size_hw: Size
    sha256: str
    size_bytes: int
    latency: Quantiles
    per_picture_ms: float
    stages: Mapping[str, float | None]
    samples: Annotated[Mapping[str, Samples], AfterValidator(_timed)]
    device_time: bool
    cost: Cost
    build_seconds: float | None = None
    operations: int | None = None
    ratio: Ratio | None = None
    throughput: Throughput | None = None
    accuracy: Accuracy | None = None
    floor: Floor | None = None
    board_floors_ms: Mapping[str, float] = {}
    flags: tuple[str, ...] = ()


class NotRun(Record):
    """What this machine cannot run, or was not asked for in a way it can; reason in words. asked: False where the
    command left it out."""

    name: str
    backend: str
    batch: int | None
    reason: str
    asked: bool = True


class Ceiling(Record):
    """Measured peaks of a device. ops_per_s by precision, bytes_per_s of memory."""

    ops_per_s: Mapping[str, float]
    bytes_per_s: float | None
    how: str


class BenchRecord(Record):
    """The whole of a run. flags: what makes its figures doubtful, in words."""

    machine: Machine
    before: Conditions
    after: Conditions
    code: Code
    settings: Settings
    lines: tuple[Line, ...]
    not_run: tuple[NotRun, ...]
    ceilings: Mapping[str, Ceiling]
    seconds: float
    order: tuple[tuple[str, ...], ...]
    flags: tuple[str, ...] = ()
    timed: str = TIMED
    not_timed: str = NOT_TIMED
    format: Literal[1] = 1


def write_record(path: Path, record: BenchRecord) -> None:
    """Raises StorageError."""
    write_atomic(path, record.model_dump_json(indent=1) + "\n")


def read_record(path: Path) -> BenchRecord:
    """Raises ConfigError where it is missing, damaged or of another format."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ConfigError(f"{path}: cannot be read ({reason}), wanted a record of segdec bench --json.") from None
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise ConfigError(f"{path}: benchmark record of format {found}, wanted {FORMAT}. Run segdec bench --json anew.")
    try:
        return BenchRecord.model_validate_json(json.dumps(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {key}: {first['msg']}. Run segdec bench --json anew.") from error
