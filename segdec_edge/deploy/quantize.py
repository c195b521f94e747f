"""A bundle in INT8 or FP16: measures the ranges, writes the graph, says in meta.json what was done. Judges nothing.

bundle ─► ranges on the manifest's pictures (kept in a cache) ─► Q/DQ graph ─► what stays out of INT8 in FP16
Accuracy is deploy.gate's, and which layers stay out is deploy.sensitivity's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import onnx

from segdec_edge.bundle import Bundle
from segdec_edge.deploy.calibration import CalibrationSet
from segdec_edge.deploy.half import LARGEST, half_layers, to_half
from segdec_edge.deploy.qdq import Activations, Layer, before_pools, named_layers, only, quantisable, with_qdq
from segdec_edge.deploy.ranges import Calibrator, Histogram, load_cache, observe, range_of, save_cache
from segdec_edge.errors import QuantizeError
from segdec_edge.files import temporary_folder

HEADROOM = 4.0
"""A convolution's result must stay this many times below FP16's largest number on the calibration pictures."""
Rest: TypeAlias = Literal["fp16", "fp32"]
"""What a layer outside INT8 becomes. FP16 tensors, so that a strongly typed TensorRT obeys; onnxruntime and OpenVINO
on a CPU compute them in FP32 all the same, no slower."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Int8:
    """How to quantise. exclude: names of layers that stay out of INT8; rest: what they become."""

    calibrator: Calibrator = "minmax"
    activations: Activations = "int8"
    exclude: tuple[str, ...] = ()
    rest: Rest = "fp16"


@dataclass(frozen=True)
class Candidate:
    """A model.onnx of another precision, not judged yet. note says in words how it was made."""

    content: bytes
    precision: str
    note: str


@dataclass(frozen=True)
class Int8Graphs:
    """Every INT8 variant of one graph: the original, the one with Q/DQ everywhere, and its layers."""

    original: onnx.ModelProto
    quantised: onnx.ModelProto
    layers: tuple[Layer, ...]
    options: Int8

    def variant(self, int8_layers: Sequence[Layer], rest: Rest | None = None) -> bytes:
        """The graph with these layers in INT8 and the other convolutions as `rest` (fp16, fp32; None: the options')."""
        graph = before_pools(only(self.quantised, self.original, int8_layers))
        made = to_half(graph) if (rest or self.options.rest) == "fp16" else graph
        return bytes(made.SerializeToString())


def int8_graphs(
    bundle: Bundle, calibration: CalibrationSet, options: Int8, *, recalibrate: bool = False, say: Say | None = None
) -> Int8Graphs:
    """Measure (or read the cache), then make the Q/DQ graph. Raises QuantizeError, CalibrationError, StorageError."""
    require_fp32(bundle)
    model = onnx.load(bundle.model_path)
    layers = quantisable(model, bundle.spec.size_hw)
    named_layers(layers, options.exclude)  # an unknown one is told before the measuring
    measured = histograms(bundle, model, layers, calibration, recalibrate=recalibrate, say=say)
    ranges = {layer.source: range_of(measured[layer.source], options.calibrator) for layer in layers}
    with temporary_folder("segdec_qdq_"):  # onnxruntime's quantiser writes the model into temporary files of its own
        quantised = with_qdq(model, layers, ranges, options.activations)
    return Int8Graphs(model, quantised, layers, options)


def int8_candidate(graphs: Int8Graphs, calibration: CalibrationSet, exclude: Sequence[str] | None = None) -> Candidate:
    """The graph without these layers in INT8 (None: those that the options exclude).

    Raises QuantizeError on an unknown layer, or none left to be INT8.
    """
    options, layers = graphs.options, graphs.layers
    left = named_layers(layers, options.exclude if exclude is None else exclude)
    kept = tuple(layer for layer in layers if layer not in left)
    if not kept:
        raise QuantizeError("every layer is excluded, so nothing would be INT8. Make --precision fp16 instead.")
    share = sum(layer.macs_share for layer in kept)
    note = (
        f"{len(kept)} of {len(layers)} layers INT8 ({100 * share:.1f} % of the multiply-adds), activations"
        f" {options.activations}, {options.calibrator} on {len(calibration.samples)} pictures of"
        f" {calibration.path.name} {calibration.sha256[:12]}"
    )
    if left:
        note += f"; {options.rest}: {', '.join(layer.name for layer in left)}"
    return Candidate(graphs.variant(kept), "mixed" if left else "int8", note)


def half_candidate(bundle: Bundle, calibration: CalibrationSet) -> Candidate:
    """The bundle in FP16; a convolution that comes near FP16's largest number on the pictures stays FP32.

    Raises QuantizeError where the bundle is not FP32 or no convolution can be FP16.
    """
    require_fp32(bundle)
    model = onnx.load(bundle.model_path)
    convolutions = [node.output[0] for node in model.graph.node if node.op_type == "Conv"]
    seen = observe(model, convolutions, calibration.pixels())
    keep = [name for name in convolutions if seen[name].largest > LARGEST / HEADROOM]
    made = to_half(model, keep)
    halves = half_layers(made)
    if not halves:
        raise QuantizeError(f"{bundle.path}: no convolution can be FP16 without overflow. Keep it in FP32.")
    note = (
        f"{len(halves)} of {len(convolutions)} convolutions FP16, statistics FP32; largest result"
        f" {max(one.largest for one in seen.values()):.3g} on {len(calibration.samples)} pictures"
    )
    return Candidate(bytes(made.SerializeToString()), "fp16", note)


def histograms(
    bundle: Bundle,
    model: onnx.ModelProto,
    layers: Sequence[Layer],
    calibration: CalibrationSet,
    *,
    recalibrate: bool = False,
    say: Say | None = None,
) -> Mapping[str, Histogram]:
    """What each layer takes on the calibration pictures, from the cache where it belongs to these weights and pictures.

    Raises CalibrationError on a cache of others (recalibrate: replace it), StorageError.
    """
    cache, sha256 = cache_path(calibration.path, bundle), bundle.spec.sha256
    sources = tuple(dict.fromkeys(layer.source for layer in layers))
    if cache.exists() and not recalibrate:
        return load_cache(cache, sha256, calibration.sha256, sources)
    total = len(calibration.samples)

    def told(done: int) -> None:
        if say is not None and done in (1, total):
            say(f"calibrating: {done} of {total} pictures")

    found = observe(model, sources, calibration.pixels(), told)
    _refuse_empty(found)
    save_cache(cache, sha256, calibration.sha256, found)
    return found


def cache_path(manifest: Path, bundle: Bundle) -> Path:
    """parts-0123456789ab.cache beside parts.toml: one for each set of weights."""
    return manifest.with_name(f"{manifest.stem}-{bundle.spec.sha256[:12]}.cache")


def require_fp32(bundle: Bundle) -> None:
    """Raises QuantizeError on a bundle of another precision."""
    if bundle.spec.precision != "fp32":
        raise QuantizeError(
            f"{bundle.path}: is {bundle.spec.precision} already, wanted FP32. Give the bundle that it was made from."
        )


def _refuse_empty(found: Mapping[str, Histogram]) -> None:
    dead = [name for name, one in found.items() if not np.any(one.counts[1:])]
    if dead:
        raise QuantizeError(
            f"{dead[0]} is zero on every calibration picture: the network is dead there. Train it anew."
        )
