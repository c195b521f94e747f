"""What to expect of a bundle on a board that is not here. Predicted, never measured: a range, and where it comes from.

The near end is the floor at the board's stated peaks: no engine can be faster. The far end divides it by the least
share of a peak that any network was seen to reach there. Records of segdec bench from a GPU narrow both ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from segdec_edge.bench.count import LayerCost, compulsory_bytes, layers_of
from segdec_edge.bench.record import BenchRecord, Ceiling, Positive
from segdec_edge.bench.roofline import floor_of
from segdec_edge.bundle import Bundle
from segdec_edge.config.load import Settings, load_toml
from segdec_edge.errors import ConfigError

_WIDTH = {"fp32": 4, "fp16": 2, "int8": 1}
_BASIS = {
    "stated": "as the vendor states them",
    "derived": "derived, not stated by the vendor",
    "second-hand": "SECOND-HAND, take both ends as a guess",
}
_ENOUGH = 3
"""Own measurements from which on the published ones are left out."""

Precision = Literal["fp16", "int8"]


class Board(Settings):
    """Dense peaks: fp16, int8 in operations a second, memory in bytes a second; None where no figure is certain.

    basis: as the vendor states it, derived from stated cores and a clock, or second-hand.
    """

    name: str
    source: str
    basis: Literal["stated", "derived", "second-hand"]
    fp16: Positive | None = None
    int8: Positive | None = None
    memory: Positive | None = None

    def ceiling(self) -> Ceiling:
        # What stays FP32 counts at the FP16 peak: no board runs it faster, so a floor stays one.
        peaks = {"fp32": self.fp16, "fp16": self.fp16, "int8": self.int8}
        known = {name: peak for name, peak in peaks.items() if peak is not None}
        return Ceiling(ops_per_s=known, bytes_per_s=self.memory, how=self.source)


class Seen(Settings):
    what: str
    precision: Precision
    achieved: Annotated[float, Field(gt=0, le=1)]
    source: str


class Boards(Settings):
    boards: dict[str, Board]
    seen: tuple[Seen, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """Milliseconds of one batch. seen: what the far end rests on."""

    precision: Precision
    least_ms: float
    most_ms: float
    bound: str
    as_it_is: bool
    seen: tuple[Seen, ...]
    own: bool


def boards() -> Boards:
    return load_toml(Boards, Path(__file__).with_name("boards.toml"))


def board_named(name: str) -> Board:
    """Raises ConfigError naming the boards that are known."""
    known = boards().boards
    if name not in known:
        raise ConfigError(f"--board {name}: unknown, wanted one of {', '.join(known)}.")
    return known[name]


def seen_in(records: Sequence[BenchRecord]) -> tuple[Seen, ...]:
    """What engines reached in records of segdec bench, by the precision of their floor's layers."""
    found = []
    for record in records:
        for line in record.lines:
            precision = _engine_precision(line.precision)
            if line.backend.startswith("tensorrt") and line.floor is not None and precision is not None:
                gpu = (record.machine.board or "; ".join(record.machine.gpus)) or "a GPU"
                what = f"{line.key} on {gpu}, {line.latency.p50:.2f} ms"
                achieved = min(1.0, line.floor.achieved)
                found.append(Seen(what=what, precision=precision, achieved=achieved, source="segdec bench"))
    return tuple(found)


def predict(bundle: Bundle, board: Board, batch: int = 1, own: Sequence[Seen] = ()) -> tuple[Prediction, ...]:
    """In the bundle's own precision; an FP32 one as FP16 and as INT8. Raises ConfigError where the board's peak for
    that is not known, BundleError where the graph cannot be counted."""
    layers = layers_of(bundle, batch)
    narrow = [name for name in ("fp16", "int8") if any(layer.precision == name for layer in layers)]
    wanted: list[Precision] = ["int8"] if "int8" in narrow else ["fp16"] if narrow else ["fp16", "int8"]
    found = []
    for precision in wanted:
        taken = tuple(layers) if narrow else tuple(_narrowed(layer, precision) for layer in layers)
        if getattr(board, precision) is not None:
            found.append(_predicted(bundle, taken, board, batch, precision, own, bool(narrow)))
    if not found:
        raise ConfigError(
            f"{board.name}: no certain peak for {wanted[0]} is known. Choose another board, or a bundle in another"
            " precision."
        )
    return tuple(found)


def board_floors(layers: Sequence[LayerCost], compulsory: int) -> dict[str, float]:
    """Least milliseconds of one batch as its layers are, on every board whose peaks for them are known."""
    used = {layer.precision for layer in layers} - {"fp32"}
    able = {
        name: board
        for name, board in boards().boards.items()
        if all(getattr(board, precision) is not None for precision in used)
    }
    floors = {name: floor_of(layers, compulsory, board.ceiling(), median_ms=1.0) for name, board in able.items()}
    return {name: floor.floor_ms for name, floor in floors.items() if floor is not None}


def in_words(bundle: Bundle, board: Board, batch: int, found: Sequence[Prediction]) -> str:
    lines = [f"PREDICTED, NOT MEASURED: {bundle.path.name} on {board.name}, batch {batch}"]
    for one in found:
        state = "as it is" if one.as_it_is else f"after segdec quantize --precision {one.precision}"
        lines.append(f"{one.precision} {state}: {one.least_ms:.3g} to {one.most_ms:.3g} ms")
        lines.append(f"  not below {one.least_ms:.3g} ms: {_near(one, board)}")
        lines.append(f"  up to {one.most_ms:.3g} ms: the share of a peak reached by {_weakest(one).what}")
        lines.append(f"  how sure: {_how_sure(one)}")
    lines.append(f"Peaks, {_BASIS[board.basis]}: {board.source}.")
    lines.append("Time of the engine alone; camera, preparing and deciding come on top. Build it there and measure:")
    lines.append(f"segdec build {bundle.path.name} && segdec bench {bundle.path.name}")
    return "\n".join(lines)


def _predicted(
    bundle: Bundle,
    layers: tuple[LayerCost, ...],
    board: Board,
    batch: int,
    precision: Precision,
    own: Sequence[Seen],
    as_it_is: bool,
) -> Prediction:
    floor = floor_of(layers, compulsory_bytes(layers, bundle, batch), board.ceiling(), median_ms=1.0)
    if floor is None:
        raise ConfigError(f"{board.name}: no certain peak for all layers of {bundle.path} is known.")
    mine = tuple(seen for seen in own if seen.precision == precision)
    enough = len(mine) >= _ENOUGH
    seen = mine if enough else (*mine, *(one for one in boards().seen if one.precision == precision))
    best = max(one.achieved for one in mine) if enough else 1.0
    worst = min(one.achieved for one in seen)
    return Prediction(precision, floor.floor_ms / best, floor.floor_ms / worst, floor.bound, as_it_is, seen, enough)


def _narrowed(layer: LayerCost, precision: Precision) -> LayerCost:
    """As if it were quantised: the last, fully connected layer stays as it is."""
    if layer.kind != "Conv":
        return replace(layer, precision="fp16")
    share = _WIDTH[precision] / _WIDTH[layer.precision]
    weights, moved = round(layer.weight_bytes * share), round(layer.moved_bytes * share)
    return replace(layer, precision=precision, weight_bytes=weights, moved_bytes=moved)


def _engine_precision(name: str) -> Precision | None:
    """A mixed one is INT8 but for a few layers, as predict() counts it."""
    return "int8" if name in ("int8", "mixed") else "fp16" if name == "fp16" else None


def _near(one: Prediction, board: Board) -> str:
    if one.own:
        return f"the best of {len(one.seen)} engines measured elsewhere, scaled to this board's peak"
    limit = "arithmetic" if one.bound == "compute" else "memory"
    return f"its {limit} at the stated peak" + ("" if board.memory else " (memory speed unknown, left out)")


def _weakest(one: Prediction) -> Seen:
    return min(one.seen, key=lambda seen: seen.achieved)


def _how_sure(one: Prediction) -> str:
    spread = one.most_ms / one.least_ms
    if one.own:
        return f"engines of this kind were measured on other GPUs, the range is {spread:.1f} wide"
    return (
        f"little: no engine of this network was measured on such a board, the range is {spread:.1f} wide, from nothing"
        f" lost to the worst of {len(one.seen)} published measurements; a smaller network or a lower power mode can lie"
        " beyond it. Records of segdec bench --json from any NVIDIA GPU narrow it: --seen FILE"
    )
