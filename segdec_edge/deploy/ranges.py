"""What values each tensor takes on the calibration pictures, and the range that INT8 shall cover. Knows no Q/DQ node.

One pass over the pictures gives a histogram of each tensor's magnitude; every calibrator reads its range off that, so
trying another one costs nothing. onnxruntime's own calibrators keep every activation of every picture until the end:
about 5 GB for 32 pictures of 704×256, and once for each calibrator.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from segdec_edge.errors import CalibrationError
from segdec_edge.files import write_atomic
from segdec_edge.runtime.checks import INPUT
from segdec_edge.types import Pixels

Calibrator: TypeAlias = Literal["minmax", "percentile", "entropy", "mse"]
CALIBRATORS: tuple[Calibrator, ...] = get_args(Calibrator)
BINS = 2048
LEVELS = 128
"""Steps of INT8 on one side of zero, as TensorRT quantises: symmetric."""
PERCENTILE = 0.9999
_ERRORS_ONLY = 3
_CACHE_FORMAT = 1
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Histogram:
    """counts (BINS,) int64 of |value| in [0, limit); low and high the smallest and largest value seen."""

    counts: NDArray[np.int64]
    limit: float
    low: float
    high: float

    @property
    def largest(self) -> float:
        return max(abs(self.low), abs(self.high))


def histogram_of(values: NDArray[np.float32], old: Histogram | None = None) -> Histogram:
    """The histogram of values, added to an older one. limit is a power of two, so that widening merges bins in pairs.

    Raises CalibrationError on NaN and infinity.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise CalibrationError("a tensor holds NaN or infinity on a calibration picture. Evaluate the bundle first.")
    counts, limit = (np.zeros(BINS, np.int64), _power_above(low, high)) if old is None else (old.counts, old.limit)
    while limit <= max(abs(low), abs(high)):
        counts = np.concatenate([counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)])
        limit *= 2
    bins = (np.abs(values).ravel() * np.float32(BINS / limit)).astype(np.int32)
    counts = counts + np.bincount(bins, minlength=BINS)
    return Histogram(counts, limit, min(low, old.low) if old else low, max(high, old.high) if old else high)


def observe(
    model: onnx.ModelProto, tensors: Sequence[str], pictures: Iterable[Pixels], progress: Progress | None = None
) -> dict[str, Histogram]:
    """Run the model in FP32 on each picture (N, H, W, C) uint8 and count the values of these tensors.

    progress: gets the number of pictures done. Raises CalibrationError.
    """
    session = _session_with(model, tensors)
    found: dict[str, Histogram] = {}
    for done, pixels in enumerate(pictures, start=1):
        for name, values in zip(tensors, session.run(list(tensors), {INPUT: pixels}), strict=True):
            found[name] = histogram_of(values, found.get(name))
        if progress is not None:
            progress(done)
    return found


def range_of(histogram: Histogram, calibrator: Calibrator) -> tuple[float, float]:
    """(lowest, highest) that INT8 shall cover; what lies outside is clipped.

    minmax: all that was seen. percentile: 99.99 % of the values. entropy: least Kullback-Leibler divergence, as
    TensorRT's calibrator. mse: least mean squared error.
    """
    match calibrator:
        case "minmax":
            edge = histogram.largest
        case "percentile":
            share = np.cumsum(histogram.counts) / max(int(histogram.counts.sum()), 1)
            edge = (int(np.searchsorted(share, PERCENTILE)) + 1) * histogram.limit / BINS
        case "entropy":
            edge = _least(histogram, _divergence)
        case "mse":
            edge = _least(histogram, _squared_error)
    edge = min(edge, histogram.largest) or 1.0  # a tensor of zeros has any range
    return max(histogram.low, -edge), min(histogram.high, edge)


def save_cache(path: Path, model_sha256: str, manifest_sha256: str, histograms: Mapping[str, Histogram]) -> None:
    """Write what was measured, with whom it belongs to. Raises StorageError."""
    tensors = {
        name: {
            "counts": base64.b64encode(one.counts.astype("<i8").tobytes()).decode(),
            "limit": one.limit,
            "low": one.low,
            "high": one.high,
        }
        for name, one in histograms.items()
    }
    record = {"format": _CACHE_FORMAT, "model_sha256": model_sha256, "manifest_sha256": manifest_sha256}
    write_atomic(path, json.dumps({**record, "tensors": tensors}))


def load_cache(
    path: Path, model_sha256: str, manifest_sha256: str, tensors_wanted: Collection[str] = ()
) -> dict[str, Histogram]:
    """What an earlier run measured on the very same weights and pictures, of these tensors at least.

    Raises CalibrationError where it did not.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        tensors = {name: _histogram(one) for name, one in record["tensors"].items()}
        belongs = (record["format"], record["model_sha256"], record["manifest_sha256"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise CalibrationError(f"{path}: not a readable calibration cache ({reason}). {_anew(path)}") from error
    if belongs[0] != _CACHE_FORMAT:
        raise CalibrationError(f"{path}: cache format {belongs[0]}, wanted {_CACHE_FORMAT}. {_anew(path)}")
    for what, found, wanted in (
        ("weights", belongs[1], model_sha256),
        ("calibration pictures", belongs[2], manifest_sha256),
    ):
        if found != wanted:
            raise CalibrationError(
                f"{path}: was measured with other {what} ({str(found)[:12]}, wanted {wanted[:12]}). {_anew(path)}"
            )
    for name in tensors_wanted:
        if name not in tensors:
            raise CalibrationError(f"{path}: holds nothing of {name}, which has to be known. {_anew(path)}")
    return tensors


def _anew(path: Path) -> str:
    return f"Measure again: segdec quantize with --recalibrate, or remove {path.name}"


def _histogram(one: Mapping[str, Any]) -> Histogram:
    counts = np.frombuffer(base64.b64decode(one["counts"], validate=True), "<i8").astype(np.int64)
    if counts.shape != (BINS,):
        raise ValueError(f"{len(counts)} bins, wanted {BINS}")
    return Histogram(counts, float(one["limit"]), float(one["low"]), float(one["high"]))


def _power_above(low: float, high: float) -> float:
    largest = max(abs(low), abs(high))
    return float(2.0 ** np.ceil(np.log2(largest * (1 + 1e-6)))) if largest > 0 else 2.0**-20


def _session_with(model: onnx.ModelProto, tensors: Sequence[str]) -> onnxruntime.InferenceSession:
    """The model with these tensors as further outputs."""
    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    known = {one.name for one in wider.graph.output}
    for name in dict.fromkeys(tensors):
        if name not in known:
            wider.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    return onnxruntime.InferenceSession(wider.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _least(histogram: Histogram, cost: Callable[[NDArray[np.float64], int], float]) -> float:
    """The edge in values of the `bins` with the least cost, among those that hold LEVELS bins or more."""
    counts = histogram.counts.astype(np.float64)
    # Exact zeros (half of what a ReLU gives) are free of error at any range, and would outweigh everything else.
    counts[0] = counts[1]
    used = int(np.flatnonzero(histogram.counts)[-1]) + 1
    candidates = range(min(LEVELS, used), used + 1)
    best = min(candidates, key=lambda bins: (cost(counts[:used], bins), -bins))
    return best * histogram.limit / BINS


def _divergence(counts: NDArray[np.float64], bins: int) -> float:
    """Kullback-Leibler divergence of the clipped histogram from its 128-step version. Source: Migacz, GTC 2017."""
    kept = counts[:bins]
    clipped = kept.copy()
    clipped[-1] += counts[bins:].sum()
    steps = np.linspace(0, bins, LEVELS + 1).astype(np.intp)[:-1] if bins > LEVELS else np.arange(bins)
    filled = kept > 0
    mass, occupied = np.add.reduceat(kept, steps), np.add.reduceat(filled.astype(np.float64), steps)
    widths = np.diff(np.append(steps, bins))
    coarse = np.where(filled, np.repeat(mass / np.maximum(occupied, 1), widths), 0.0)
    p, q = clipped / max(clipped.sum(), 1.0), coarse / max(coarse.sum(), 1.0)
    both = (p > 0) & (q > 0)
    lost = float(p[(p > 0) & (q == 0)].sum())  # what the coarse one gives no chance at all
    return float((p[both] * np.log(p[both] / q[both])).sum() - lost * np.log(1e-4))


def _squared_error(counts: NDArray[np.float64], bins: int) -> float:
    centres = np.arange(len(counts)) + 0.5
    step = bins / (LEVELS - 1)
    shown = np.minimum(np.round(centres / step), LEVELS - 1) * step
    return float((counts * np.square(centres - shown)).sum())
