"""A checkpoint becomes a bundle: uint8 pixels in, score and heatmap out, proven equal to torch on real pictures.

pixels (N, H, W, C) uint8 ─► cast, /255, N,C,H,W ─► SegDecNet ─► sigmoid ─► score (N,), heatmap (N, H/8, W/8)
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from segdec_edge import __version__
from segdec_edge.bundle import (
    Bundle,
    InputFacts,
    Meta,
    ModelFacts,
    OutputFacts,
    Parity,
    Step,
    Threshold,
    model_facts,
    require_replaceable,
    utc_now,
    write_bundle,
)
from segdec_edge.deploy.simplify import NotSimplified, simplified
from segdec_edge.errors import BackendError, ExportError
from segdec_edge.model.backend import TorchBackend, source_range_of, spec_of
from segdec_edge.model.checkpoint import Checkpoint, load_checkpoint
from segdec_edge.model.segdecnet import SegDecNet, check_size
from segdec_edge.pictures import MIN_CONTRAST, contrast_of, prepare
from segdec_edge.profile import Profile
from segdec_edge.runtime import backend_classes
from segdec_edge.runtime.checks import HEATMAP, INPUT, SCORE
from segdec_edge.types import Backend, ModelSpec, Pixels, Prediction

OPSET = 17
"""What TensorRT 8.6 (JetPack 6.0) and everything after it reads."""
MAX_DIFFERENCE = 1e-4
_LARGEST_BATCH = 4
_PACKAGES = ("torch", "onnx", "onnxsim", "onnxruntime", "numpy")


def export_checkpoint(
    checkpoint: Path,
    bundle: Path,
    *,
    size_hw: tuple[int, int] | None = None,
    pictures: Sequence[Pixels],
    simplify: bool = True,
    max_difference: float = MAX_DIFFERENCE,
    split: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Bundle:
    """Write a bundle whose model.onnx, on onnxruntime, scores `pictures` as the checkpoint does; or write nothing.

    size_hw: None for the size trained at. pictures: (H, W) or (H, W, 3) BGR of any size, real ones. max_difference: the
    largest absolute one allowed in any score or heatmap pixel. split: None for the one among the checkpoint's facts.
    progress: gets one line a stage. Raises ExportError, CheckpointError, SizeError, BundleError, StorageError.
    """
    say = progress or _silent
    require_replaceable(bundle)
    loaded = load_checkpoint(checkpoint)
    spec = _spec(loaded, checkpoint, size_hw)
    say(f"scoring {len(pictures)} pictures with torch")
    pixels = _with_contrast([prepare(picture, spec.size_hw, spec.channels) for picture in pictures])
    wanted = _one_by_one(TorchBackend(loaded.net, spec), pixels)
    say("tracing the network")
    plain = _trace(loaded.net, spec)
    content, facts, parity = _proven(plain, spec, pixels, wanted, max_difference, simplify, say)
    meta = _meta(loaded, checkpoint, spec, facts, parity)
    return write_bundle(bundle, onnx_bytes=content, meta=meta, split=split or loaded.facts.get("split"))


def _with_contrast(prepared: Sequence[Pixels]) -> Pixels:
    """The pictures as one array, without those that no station would give to the network. Raises ExportError on none.

    A flat picture tells nothing about parity either: FeatureNorm divides its rounding errors by next to nothing.
    """
    usable = [one for one in prepared if contrast_of(one) >= MIN_CONTRAST]
    if not usable:
        raise ExportError(
            f"{len(prepared)} pictures to check the export on, none of them with contrast, wanted at least one."
            " Give pictures of real parts."
        )
    return np.stack(usable)


class _Deployed(nn.Module):
    """The network with its preprocessing and both sigmoids: what the graph holds."""

    def __init__(self, net: SegDecNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        # Cast first: TensorRT computes nothing in uint8, not even a transposition.
        x = (pixels.float() / 255).permute(0, 3, 1, 2)
        decision, segmentation = self.net(x)
        return decision.sigmoid().squeeze(1), segmentation.sigmoid().squeeze(1)


def _spec(loaded: Checkpoint, path: Path, size_hw: tuple[int, int] | None) -> ModelSpec:
    size = size_hw or loaded.size_hw
    if size is None:
        raise ExportError(f"{path}: does not say its input size, wanted one. Give it: --size HEIGHTxWIDTH")
    check_size(size)
    if loaded.size_hw is not None and loaded.size_hw != size:
        raise ExportError(
            f"{path}: was trained at {loaded.size_hw[0]}x{loaded.size_hw[1]}, got --size {size[0]}x{size[1]}: its"
            " statistics and threshold hold for its own size alone. Leave --size out, or train at the other size."
        )
    source_hw = source_range_of(loaded.facts)
    return spec_of(loaded.net, size, threshold=loaded.threshold, sha256=loaded.sha256, source_hw=source_hw)


def _trace(net: SegDecNet, spec: ModelSpec) -> bytes:
    example = torch.zeros(1, *spec.size_hw, spec.channels, dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings(), TemporaryDirectory(prefix="segdec_trace_") as folder:
        # The tracing exporter is deprecated, but the other one cannot write opset 17.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Deployed(net).eval(),
            (example,),
            Path(folder) / "model.onnx",
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[SCORE, HEATMAP],
            dynamic_axes={name: {0: "batch"} for name in (INPUT, SCORE, HEATMAP)},
        )
        return (Path(folder) / "model.onnx").read_bytes()


def _proven(
    plain: bytes,
    spec: ModelSpec,
    pixels: Pixels,
    wanted: Prediction,
    limit: float,
    simplify: bool,
    say: Callable[[str], None],
) -> tuple[bytes, ModelFacts, Parity]:
    """The simplified graph where that can be had and is faithful, else the plain one with the reason in its facts."""
    note = "not asked for"
    if simplify:
        say("simplifying the graph")
        try:
            return _checked(simplified(plain), spec, pixels, wanted, limit, say, simplified=True)
        except (NotSimplified, ExportError) as error:
            note = str(error)
            say(f"kept the graph unsimplified: {note}")
    return _checked(plain, spec, pixels, wanted, limit, say, simplified=False, note=note)


def _checked(
    content: bytes,
    spec: ModelSpec,
    pixels: Pixels,
    wanted: Prediction,
    limit: float,
    say: Callable[[str], None],
    *,
    simplified: bool,
    note: str = "",
) -> tuple[bytes, ModelFacts, Parity]:
    opset, nodes = _examine(content)
    say(f"comparing with torch: {nodes} nodes, {len(content) / 1e6:.1f} MB")
    parity = _parity(content, spec, pixels, wanted, limit)
    return content, model_facts(content, opset=opset, simplified=simplified, note=note), parity


def _examine(content: bytes) -> tuple[int, int]:
    """Opset and number of nodes. Raises ExportError on an invalid graph or another opset than asked for."""
    model = onnx.load_from_string(content)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the exported graph is not valid ({' '.join(str(error).split())[:200]}).") from error
    opset = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    if opset != OPSET:
        raise ExportError(f"the exporter made opset {opset}, wanted {OPSET}. Install the torch that pyproject names.")
    return opset, len(model.graph.node)


def _parity(content: bytes, spec: ModelSpec, pixels: Pixels, wanted: Prediction, limit: float) -> Parity:
    """Compare the file on every backend that loads here with torch. Raises ExportError above the limit."""
    apart: dict[str, tuple[float, float]] = {}
    with TemporaryDirectory(prefix="segdec_export_") as folder:
        model = Path(folder) / "model.onnx"
        model.write_bytes(content)
        for name, backend_class in backend_classes().items():
            try:
                backend = backend_class(model, spec)
                # Picture by picture and in a batch.
                found = _one_by_one(backend, pixels), backend.infer(_batch(pixels))
            except BackendError as error:
                raise ExportError(f"the exported graph does not run: {error}") from error
            score = float(np.max([_difference(one.score, wanted.score) for one in found]))
            apart[name] = score, float(np.max([_difference(one.heatmap, wanted.heatmap) for one in found]))
    for name, (score, heatmap) in apart.items():
        if not (score <= limit and heatmap <= limit):
            raise ExportError(
                f"the exported graph on {name} differs from torch by {score:.2g} (score) and {heatmap:.2g} (heatmap) on"
                f" {len(pixels)} pictures, wanted at most {limit:g}; nothing was written."
                " Export with other versions of torch and onnx, or report it."
            )
    score, heatmap = (max(values) for values in zip(*apart.values(), strict=True))
    return Parity(
        pictures=len(pixels), max_abs_score=score, max_abs_heatmap=heatmap, limit=limit, backends=tuple(apart)
    )


def _one_by_one(backend: Backend, pixels: Pixels) -> Prediction:
    found = [backend.infer(one[None]) for one in pixels]
    return Prediction(np.concatenate([one.score for one in found]), np.concatenate([one.heatmap for one in found]))


def _batch(pixels: Pixels) -> Pixels:
    """Up to four of the pictures; one alone gets its mirror image beside it, as pictures must not mix in a batch."""
    return pixels[:_LARGEST_BATCH] if len(pixels) > 1 else np.concatenate([pixels, pixels[:, ::-1]])


def _difference(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Largest absolute difference in the pictures that both hold, from the first on; NaN where either holds one."""
    both = min(len(found), len(wanted))
    return float(np.abs(found[:both] - wanted[:both]).max())


def _meta(loaded: Checkpoint, path: Path, spec: ModelSpec, facts: ModelFacts, parity: Parity) -> Meta:
    now, net = utc_now(), loaded.net
    training = {
        **{key: value for key, value in loaded.facts.items() if key not in ("split", "profile")},
        "checkpoint_sha256": loaded.sha256,
        "epoch": loaded.epoch,
        "network": {"in_channels": net.in_channels, "width": net.width, "norm": net.norm},
    }
    uncalibrated = "never calibrated" if loaded.threshold is None else "not said by the checkpoint"
    return Meta(
        segdec_edge=__version__,
        created=now,
        input=InputFacts(
            size_hw=spec.size_hw,
            channels=1 if spec.channels == 1 else 3,
            colour="grey" if spec.channels == 1 else "bgr",
            source_hw=spec.source_hw,
        ),
        outputs=OutputFacts(heatmap_hw=spec.heatmap_hw),
        threshold=Threshold(value=spec.threshold, source=loaded.threshold_source or uncalibrated),
        model=facts,
        training=json.loads(json.dumps(training)),
        parity=parity,
        versions=_versions(),
        profile=_profile(loaded, path, facts),
        lineage=(Step(step="export", sha256=facts.sha256, when=now, note=f"from {path.name}, {loaded.sha256}"),),
    )


def _profile(loaded: Checkpoint, path: Path, facts: ModelFacts) -> Profile | None:
    """The checkpoint's own: its scores are those of the graph, as parity has shown."""
    found = loaded.facts.get("profile")
    if found is None:
        return None
    try:
        return Profile.model_validate_json(json.dumps({**found, "model_sha256": facts.sha256}))
    except (ValidationError, TypeError) as error:
        raise ExportError(f"{path}: its training profile makes no sense. Train anew, or report it.") from error


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _silent(line: str) -> None:
    pass
