"""A checkpoint as a Backend: the parity reference, the plain peer, and what training validates with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segdec_edge.errors import BackendError, CheckpointError
from segdec_edge.model.checkpoint import load_checkpoint
from segdec_edge.model.segdecnet import STRIDE, SegDecNet, check_size
from segdec_edge.runtime.checks import check_pixels
from segdec_edge.types import ModelSpec, Pixels, Prediction

UNCALIBRATED_THRESHOLD = 0.5


class TorchBackend:
    """Scores with a SegDecNet in float32 on the device where it lies. It leaves the network's mode as it was."""

    name = "torch"

    def __init__(
        self,
        net: SegDecNet,
        spec: ModelSpec,
        facts: Mapping[str, Any] | None = None,
        threshold_source: str = "",
    ) -> None:
        check_size(spec.size_hw)
        self.net, self.spec = net, spec
        self.facts, self.threshold_source = facts or {}, threshold_source
        self._device = next(net.parameters()).device
        self._closed = False

    def infer(self, pixels: Pixels) -> Prediction:
        """pixels (N, H, W, C) uint8 of the spec's size. Raises BackendError on any other shape or type."""
        check_pixels(pixels, self.spec)
        if self._closed:
            raise BackendError("this torch backend is closed. Open the checkpoint again.")
        training = self.net.training
        self.net.eval()
        try:
            return self._infer(pixels)
        finally:
            self.net.train(training)

    def _infer(self, pixels: Pixels) -> Prediction:
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, enabled=False),
            warnings.catch_warnings(),
        ):
            # numpy arrays from files may be read-only; they are copied to float at once
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            x = torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device).permute(0, 3, 1, 2).float() / 255
            decision, segmentation = self.net(x)
            score, heatmap = decision.sigmoid()[:, 0], segmentation.sigmoid()[:, 0]
        return Prediction(score.float().cpu().numpy(), heatmap.float().cpu().numpy())

    def close(self) -> None:
        """Score no more. The network belongs to the caller and stays as it is."""
        self._closed = True


SourceRange = tuple[tuple[int, int], tuple[int, int]]


def source_range_of(facts: Mapping[str, Any]) -> SourceRange | None:
    """Sizes of the pictures trained on as a checkpoint's facts have them, None where they do not say."""
    found = facts.get("source_hw")
    if not found:
        return None
    (low_h, low_w), (high_h, high_w) = found
    return (int(low_h), int(low_w)), (int(high_h), int(high_w))


def spec_of(
    net: SegDecNet,
    size_hw: tuple[int, int],
    *,
    threshold: float | None = None,
    sha256: str = "",
    source_hw: SourceRange | None = None,
) -> ModelSpec:
    """The ModelSpec of a network at an input size. Raises SizeError."""
    check_size(size_hw)
    return ModelSpec(
        size_hw=size_hw,
        channels=net.in_channels,
        heatmap_hw=(size_hw[0] // STRIDE, size_hw[1] // STRIDE),
        threshold=UNCALIBRATED_THRESHOLD if threshold is None else threshold,
        sha256=sha256,
        source_hw=source_hw,
    )


def open_checkpoint(path: Path, size_hw: tuple[int, int] | None = None, device: str = "cpu") -> TorchBackend:
    """Load a checkpoint as a warm Backend. size_hw is needed only where the file does not name the trained size.

    Raises CheckpointError, SizeError, BackendError (no such device).
    """
    checkpoint = load_checkpoint(path)
    size = size_hw or checkpoint.size_hw
    if size is None:
        raise CheckpointError(f"{path}: does not say its input size. Give it: --size HEIGHTxWIDTH")
    spec = spec_of(
        checkpoint.net,
        size,
        threshold=checkpoint.threshold,
        sha256=checkpoint.sha256,
        source_hw=source_range_of(checkpoint.facts),
    )
    try:
        net = checkpoint.net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    except (RuntimeError, AssertionError) as error:
        raise BackendError(f"device {device} cannot be used ({error}). Use --device cpu.") from error
    backend = TorchBackend(net, spec, checkpoint.facts, checkpoint.threshold_source)
    backend.infer(np.zeros((1, *spec.size_hw, spec.channels), np.uint8))
    return backend
