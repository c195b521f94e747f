"""The values that travel between rooms, and the three contracts. Knows no file, no network, no framework."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]
"""A picture (H, W) or (H, W, 3) in BGR, or a batch (N, H, W, C) where a name says so; uint8."""
BoolMask: TypeAlias = NDArray[np.bool_]
"""(H, W), True where the part is defective."""
Weights: TypeAlias = NDArray[np.float32]
"""(H, W), the weight of each pixel in the segmentation loss."""


class Label(str, Enum):
    """What the line is told. The line treats UNKNOWN as a reject."""

    OK = "OK"
    DEFECT = "DEFECT"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class ModelSpec:
    """What a backend takes and where it comes from.

    size_hw and heatmap_hw in pixels; channels 1 (grey) or 3 (BGR); threshold on the score, in [0, 1];
    sha256 of the artefact (ONNX file or checkpoint); precision as the field writes it (fp32, bf16, fp16, int8);
    max_batch None where any batch size goes; source_hw the smallest and largest height and width of the pictures
    trained on, before they were resized, None where that is not known.
    """

    size_hw: tuple[int, int]
    channels: int
    heatmap_hw: tuple[int, int]
    threshold: float
    sha256: str
    precision: str = "fp32"
    max_batch: int | None = None
    source_hw: tuple[tuple[int, int], tuple[int, int]] | None = None


@dataclass(frozen=True)
class Prediction:
    """score (N,) float32 in [0, 1], higher is more defective; heatmap (N, h, w) float32 in [0, 1]."""

    score: NDArray[np.float32]
    heatmap: NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """One whole picture of one trigger.

    pixels (H, W) or (H, W, 3) BGR uint8; sequence counts this camera's triggers from 0;
    captured_ns wall clock, captured_monotonic_ns the host's monotonic clock, both in ns; source a file or stream name;
    device_ns the device's own clock in ns, where it has one.
    """

    pixels: Pixels
    sequence: int
    captured_ns: int
    captured_monotonic_ns: int
    source: str
    device_ns: int | None = None


@dataclass(frozen=True)
class Region:
    """One connected defect in pixels of the whole picture.

    box_xywh left, top, width, height; polygon_xy its outline; area_px its area; peak its highest heat, in [0, 1].
    """

    box_xywh: tuple[int, int, int, int]
    polygon_xy: tuple[tuple[int, int], ...]
    area_px: float
    peak: float


@dataclass(frozen=True)
class Verdict:
    """What was decided about one part, once.

    score is None where no prediction could be made; reason says why the label is what it is;
    times in ns of the wall clock, latency_ms from capture to decision on the monotonic clock; camera and recipe by
    name; given_id the part's name at the line (from a PLC or an encoder), where it has one; regions the defects seen;
    review: too near the border to be sure, so a copy is kept for people to look at; device_ns the camera's own clock,
    where it has one; bundle_sha256 names the model's file alone, bundle_digest all that its meta.json says.
    """

    part_id: str
    sequence: int
    label: Label
    score: float | None
    threshold: float
    reason: str
    captured_ns: int
    decided_ns: int
    latency_ms: float
    bundle_sha256: str
    source: str
    heatmap: NDArray[np.float32] | None = None
    camera: str = "camera"
    recipe: str = ""
    given_id: str | None = None
    regions: tuple[Region, ...] = ()
    review: bool = False
    device_ns: int | None = None
    bundle_digest: str = ""


@runtime_checkable
class Backend(Protocol):
    """Constructed = warm and ready. Used by one thread."""

    @property
    def name(self) -> str: ...

    @property
    def spec(self) -> ModelSpec: ...

    def infer(self, pixels: Pixels) -> Prediction:
        """Score a batch (N, H, W, C) uint8 of the spec's size. Raises BackendError on any other shape or dtype."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Camera(Protocol):
    """A context manager. A camera that can be triggered also has trigger() -> int, the trigger's number."""

    def __enter__(self) -> Camera: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def read(self, timeout_s: float) -> Frame:
        """The next whole frame. Raises CameraLost, FrameLost or EndOfStream; never gives an incomplete or old frame."""
        ...


@runtime_checkable
class Output(Protocol):
    def write(self, verdict: Verdict, frame: Frame | None) -> None:
        """Take one verdict. frame is None where the part had no usable picture."""
        ...

    def close(self) -> None: ...
