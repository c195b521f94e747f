"""What every backend checks in the same words: the pixels that come in, and the model's own inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segdec_edge.errors import BackendError
from segdec_edge.types import ModelSpec, Pixels

INPUT, SCORE, HEATMAP = "pixels", "score", "heatmap"
Signature = Sequence[tuple[str, Sequence[object]]]
"""Names with shapes; only integers in a shape are compared, anything else stands for a dimension that may vary."""


def check_pixels(pixels: Pixels, spec: ModelSpec) -> None:
    """Raise BackendError unless pixels is (N, H, W, C) uint8 of the spec's size, with N at least 1."""
    wanted = (*spec.size_hw, spec.channels)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != wanted or not len(pixels):
        raise BackendError(
            f"pixels {pixels.shape} {pixels.dtype}, wanted (N, {wanted[0]}, {wanted[1]}, {wanted[2]}) uint8, N at"
            " least 1. Prepare them first: segdec_edge.pictures.prepare"
        )
    if spec.max_batch is not None and len(pixels) > spec.max_batch:
        raise BackendError(f"a batch of {len(pixels)} pictures, wanted at most {spec.max_batch}. Send fewer at a time.")


def check_signature(spec: ModelSpec, inputs: Signature, outputs: Signature, model: str = "model.onnx") -> None:
    """Raise BackendError where a model's own inputs or outputs are not what its bundle says. model: its file."""
    height, width = spec.size_hw
    wanted_inputs = [(INPUT, (None, height, width, spec.channels))]
    wanted_outputs = [(SCORE, (None,)), (HEATMAP, (None, *spec.heatmap_hw))]
    if not (_fits(inputs, wanted_inputs) and _fits(outputs, wanted_outputs)):
        raise BackendError(
            f"{model} takes {_in_words(inputs)} and gives {_in_words(outputs)}, meta.json says"
            f" {_in_words(wanted_inputs)} and {_in_words(wanted_outputs)}. Export the checkpoint again."
        )


def _fits(found: Signature, wanted: Signature) -> bool:
    return len(found) == len(wanted) and all(
        name == wanted_name and len(shape) == len(wanted_shape) and _same(shape, wanted_shape)
        for (name, shape), (wanted_name, wanted_shape) in zip(found, wanted, strict=True)
    )


def _same(shape: Sequence[object], wanted: Sequence[object]) -> bool:
    return all(size == want for size, want in zip(shape, wanted, strict=True) if want is not None)


def _in_words(signature: Signature) -> str:
    words = []
    for name, shape in signature:
        sizes = ", ".join(str(size) if isinstance(size, int) else "N" for size in shape)
        words.append(f"{name} ({sizes})")
    return ", ".join(words)
