"""What folding and compressing have in common: a bundle's network, its training pictures, and what is done at the end.

Both need torch for the measuring; what they write needs none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segdec_edge.bundle import Bundle, ModelFacts, model_facts, read_bundle
from segdec_edge.data.samples import Sample
from segdec_edge.data.splits import Split
from segdec_edge.deploy.calibration import choose
from segdec_edge.deploy.distil import Recipe, StepProgress, Targets, aligned, distilled, targets_of
from segdec_edge.deploy.gate import dataset_of
from segdec_edge.deploy.graph_read import read_network
from segdec_edge.deploy.graph_write import OPSET, to_onnx
from segdec_edge.deploy.network import Network
from segdec_edge.deploy.shift import score_graph
from segdec_edge.errors import BundleError, CalibrationError, PictureError
from segdec_edge.pictures import prepare, refuse_flat
from segdec_edge.types import ModelSpec, Pixels

Say = Callable[[str], None]
PICTURES = 32
"""To fit constants and factors on. KolektorSDD fold 1: 24 and 32 pictures come out alike (benchmarks/README.md)."""
_CHECKED = 2
_SAME_SCORE = 1e-4


@dataclass(frozen=True)
class Opened:
    """A bundle taken apart. samples: its training pictures."""

    bundle: Bundle
    network: Network
    samples: tuple[Sample, ...]

    @property
    def spec(self) -> ModelSpec:
        return self.bundle.spec


@dataclass(frozen=True)
class Material:
    """Training pictures as the network takes them, (N, H, W, C) uint8; defective (N,)."""

    pixels: Pixels
    defective: NDArray[np.bool_]


def open_for_rebuilding(path: Path, data: str | None) -> Opened:
    """Read a bundle's network and find its training pictures; what was read scores as the file itself does.

    Raises BundleError where the graph is not one of ours or comes out different, CalibrationError without a split.
    """
    bundle = read_bundle(path)
    network = read_network(bundle.model_path.read_bytes())
    split = bundle.split()
    if split is None:
        raise CalibrationError(
            f"{path}: does not say which pictures it was trained on; nothing may be fitted to those it is judged on."
            " Export it from a checkpoint that segdec train made."
        )
    samples = dataset_of(bundle, data).named(Split.from_json(split).train)
    opened = Opened(bundle, network, tuple(samples))
    _require_same(opened)
    return opened


def _require_same(opened: Opened) -> None:
    """The layers that were read must be what the file computes: a graph may hide more than its shape tells."""
    few = opened.samples[:_CHECKED]
    ours = score_graph(content_of(opened.network, opened.spec), opened.spec, "onnxruntime", few)
    theirs = score_graph(opened.bundle.model_path.read_bytes(), opened.spec, "onnxruntime", few)
    for one, other in zip(ours, theirs, strict=True):
        if None in (one.score, other.score) or abs((one.score or 0) - (other.score or 0)) > _SAME_SCORE:
            raise BundleError(
                f"{opened.bundle.path}: {one.name} scores {other.score}, and {one.score} once its graph is taken apart,"
                " wanted the same. Its graph is not one of ours: export the checkpoint again."
            )


def material_of(opened: Opened, count: int | None = None, seed: int = 0) -> Material:
    """`count` training pictures chosen for spread of brightness, contrast and sharpness; None for all with contrast.

    Raises CalibrationError where there are fewer.
    """
    spec = opened.spec
    samples = opened.samples if count is None else choose(opened.samples, count, seed, spec.size_hw, spec.channels)[0]
    found = []
    for sample in samples:
        try:
            found.append(
                (refuse_flat(prepare(sample.read(), spec.size_hw, spec.channels), sample.name), sample.positive)
            )
        except PictureError:
            continue
    if not found:
        raise CalibrationError(f"{opened.bundle.path}: none of its training pictures can be used. Check the data set.")
    pixels, defective = zip(*found, strict=True)
    return Material(np.stack(pixels), np.array(defective))


def content_of(network: Network, spec: ModelSpec) -> bytes:
    """The model.onnx of a network."""
    return to_onnx(network, spec.size_hw)


def facts_of_content(content: bytes, note: str = "") -> ModelFacts:
    """What the model.onnx of a network is."""
    return model_facts(content, opset=OPSET, simplified=True, note=note)


def tuned(
    network: Network, teacher: Network, material: Material, recipe: Recipe, targets: Targets | None = None,
    progress: StepProgress | None = None,
) -> Network:  # fmt: skip
    """The network after distillation from the teacher, if there are steps; its scores aligned with the teacher's."""
    wanted = targets or targets_of(teacher, material.pixels)
    if recipe.steps:
        network = distilled(network, material.pixels, material.defective, wanted, recipe, progress)
    return aligned(network, material.pixels, material.defective, wanted)
