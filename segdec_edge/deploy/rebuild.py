"""What folding and compressing have in common: a bundle's network, its training pictures, and what is done at the end.

Both need torch for the measuring; what they write needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segdec_edge.bundle import Bundle, ModelFacts, model_facts, read_bundle
from segdec_edge.data.samples import Sample
from segdec_edge.data.splits import Split
from segdec_edge.deploy.calibration import choose
from segdec_edge.deploy.gate import dataset_of
from segdec_edge.deploy.graph_read import read_network
from segdec_edge.deploy.graph_write import OPSET, to_onnx
from segdec_edge.deploy.network import Network
from segdec_edge.deploy.quantize import require_fp32
from segdec_edge.deploy.shift import score_graph
from segdec_edge.errors import BundleError, CalibrationError, PictureError
from segdec_edge.pictures import prepare, refuse_flat
from segdec_edge.types import ModelSpec, Pixels

Say = Callable[[str], None]
PICTURES = 32
"""To fit constants and factors on. KolektorSDD fold 1: 24 and 32 pictures come out alike (benchmarks/README.md)."""
_MIRRORS = ((0,), (1,), (0, 1))
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
    """Training pictures as the network takes them, (N, H, W, C) uint8; defective (N,); names (N,)."""

    pixels: Pixels
    defective: NDArray[np.bool_]
    names: tuple[str, ...]

    def without(self, names: Collection[str]) -> Material:
        """Those of other names."""
        kept = [index for index, name in enumerate(self.names) if name not in names]
        return Material(self.pixels[kept], self.defective[kept], tuple(self.names[index] for index in kept))

    def mirrored(self, seed: int = 0) -> Material:
        """Each picture in one of its three mirror images: more to distil on. The teacher says what they are."""
        rng = np.random.default_rng(seed)
        turns = rng.integers(0, len(_MIRRORS), len(self.pixels))
        return replace(
            self, pixels=np.stack([np.flip(one, _MIRRORS[turn]) for one, turn in zip(self.pixels, turns, strict=True)])
        )


def open_for_rebuilding(path: Path, data: str | None) -> Opened:
    """Read a bundle's network and find its training pictures; what was read scores as the file itself does.

    Raises BundleError where the graph is not one of ours or comes out different, QuantizeError where it is not FP32,
    CalibrationError without a split.
    """
    bundle = read_bundle(path)
    require_fp32(bundle)
    network = read_network(bundle.model_path.read_bytes())
    split = bundle.split()
    if split is None:
        raise CalibrationError(
            f"{path}: does not say which pictures it was trained on; nothing may be fitted to those it is judged on."
            " Export it from a checkpoint that segdec train made."
        )
    opened = Opened(bundle, network, Split.from_json(split).training(dataset_of(bundle, data)))
    _require_same(opened)
    return opened


def _require_same(opened: Opened) -> None:
    """The layers that were read must be what the file computes: a graph may hide more than its shape tells."""
    few = list(islice((sample for sample in opened.samples if _is_usable(sample, opened.spec)), _CHECKED))
    ours = score_graph(content_of(opened.network, opened.spec), opened.spec, "onnxruntime", few)
    theirs = score_graph(opened.bundle.model_path.read_bytes(), opened.spec, "onnxruntime", few)
    for one, other in zip(ours, theirs, strict=True):
        if None in (one.score, other.score) or abs((one.score or 0) - (other.score or 0)) > _SAME_SCORE:
            raise BundleError(
                f"{opened.bundle.path}: {one.name} scores {other.score}, and {one.score} once its graph is taken apart,"
                " wanted the same. Its graph is not one of ours: export the checkpoint again."
            )


def _is_usable(sample: Sample, spec: ModelSpec) -> bool:
    try:
        refuse_flat(prepare(sample.read(), spec.size_hw, spec.channels), sample.name)
    except PictureError:
        return False
    return True


def material_of(opened: Opened, count: int | None = None, *, without: Collection[str] = (), seed: int = 0) -> Material:
    """`count` training pictures chosen for spread of brightness, contrast and sharpness; None for all with contrast.

    without: names of those that are not to be used. Raises CalibrationError where there are fewer than count.
    """
    spec, samples = opened.spec, tuple(sample for sample in opened.samples if sample.name not in without)
    if count is not None:
        samples = choose(samples, count, seed, spec.size_hw, spec.channels)[0]
    found = []
    for sample in samples:
        with suppress(PictureError):
            pixels = refuse_flat(prepare(sample.read(), spec.size_hw, spec.channels), sample.name)
            found.append((pixels, sample.positive, sample.name))
    if not found:
        raise CalibrationError(f"{opened.bundle.path}: none of its training pictures can be used. Check the data set.")
    planes, defective, names = zip(*found, strict=True)
    return Material(np.stack(planes), np.array(defective), names)


def content_of(network: Network, spec: ModelSpec) -> bytes:
    """The model.onnx of a network."""
    return to_onnx(network, spec.size_hw)


def facts_of_content(content: bytes, note: str = "") -> ModelFacts:
    """What the model.onnx of a network is."""
    return model_facts(content, opset=OPSET, simplified=True, note=note)
