"""The least time that measured peaks leave for a model. Measures nothing and knows no board by name.

Convolutions of 3×3 can beat a floor by a Winograd transform, which needs fewer operations than are counted; SegDecNet's
are 5×5 and larger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from segdec_edge.bench.count import LayerCost
from segdec_edge.bench.record import Ceiling, Floor

CPU, GPU = "cpu", "gpu"


def ceiling_name(backend: str) -> str:
    """Which peaks a backend is held to: those of the device that it runs on."""
    return GPU if backend.startswith("tensorrt") else CPU


def best_of(first: Mapping[str, Ceiling], second: Mapping[str, Ceiling]) -> dict[str, Ceiling]:
    """The higher of each peak measured twice: what disturbs a measurement only lowers it."""
    found = {}
    for name, one in first.items():
        other = second.get(name, one)
        rates = {key: max(rate, other.ops_per_s.get(key, 0.0)) for key, rate in one.ops_per_s.items()}
        moved = [speed for speed in (one.bytes_per_s, other.bytes_per_s) if speed is not None]
        found[name] = Ceiling(ops_per_s=rates, bytes_per_s=max(moved, default=None), how=one.how)
    return found


def floor_of(layers: Sequence[LayerCost], compulsory: int, ceiling: Ceiling, median_ms: float) -> Floor | None:
    """None where no layer counts, or one has a precision without a peak, nor a wider one that has."""
    times = [_layer_ms(layer, ceiling) for layer in layers]
    if not times or any(compute is None for compute, _ in times):
        return None
    computing = sum(compute or 0.0 for compute, _ in times)
    moving = compulsory / ceiling.bytes_per_s * 1e3 if ceiling.bytes_per_s else 0.0
    bound: Literal["compute", "memory"] = "compute" if computing >= moving else "memory"
    least = max(computing, moving)
    return Floor(
        operations=sum(layer.operations for layer in layers),
        bytes=sum(layer.bytes for layer in layers),
        compulsory_bytes=compulsory,
        floor_ms=least,
        layers_ms=sum(max(compute or 0.0, memory) for compute, memory in times),
        achieved=least / median_ms,
        bound=bound,
        ceiling=ceiling.how,
    )


def peak_for(precision: str, ceiling: Ceiling) -> float | None:
    """Operations a second at a precision; where there is none for it, of the next wider one: it can always run so."""
    for name in ("int8", "fp16", "fp32")[("int8", "fp16", "fp32").index(precision) :]:
        if name in ceiling.ops_per_s:
            return ceiling.ops_per_s[name]
    return None


def _layer_ms(layer: LayerCost, ceiling: Ceiling) -> tuple[float | None, float]:
    peak = peak_for(layer.precision, ceiling)
    memory = layer.bytes / ceiling.bytes_per_s * 1e3 if ceiling.bytes_per_s else 0.0
    return (None if peak is None else layer.operations / peak * 1e3), memory
