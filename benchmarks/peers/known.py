"""Which peers there are, and what each is given. Starts nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PLAIN = "plain torch"
"""What the others are compared with."""
OURS = "segdec"
"""Script and environment of our own forms."""


@dataclass(frozen=True)
class Entrant:
    """One line of the table.

    script: the file here that serves it; venv: its environment. model: what it opens, None where it has to be made
    first. threshold: on the score; None: picked on training pictures by the driver. unjudged: why its accuracy means
    nothing, so that it is not measured. note: what must be known with its figures.
    """

    name: str
    script: str
    venv: str
    model: Path
    threshold: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    unjudged: str = ""
    note: str = ""


def plain_peers(checkpoint: Path, exported: Path, threshold: float) -> list[Entrant]:
    """The trained network itself, run without this project."""
    in_float = {"INFERENCE_PRECISION_HINT": "f32"}
    defaults = "with its defaults OpenVINO computes in bfloat16 where the CPU can"
    return [
        Entrant(PLAIN, "plain_torch", "plain_torch", checkpoint, threshold),
        Entrant("torch.compile", "torch_compile", "torch_compile", checkpoint, threshold),
        Entrant("plain torch, GPU", "torch_cuda", "torch_cuda", checkpoint, threshold, {"form": "plain"}),
        Entrant("torch FP16, compile, CUDA graph", "torch_cuda", "torch_cuda", checkpoint, threshold, {"form": "fast"}),
        Entrant("plain onnxruntime", "plain_onnxruntime", "plain_onnxruntime", exported, threshold),
        Entrant("plain openvino", "plain_openvino", "plain_openvino", exported, threshold, note=defaults),
        Entrant("plain openvino, float32", "plain_openvino", "plain_openvino", exported, threshold, in_float),
    ]


def other_methods(work: Path, epochs: int) -> list[Entrant]:
    """Other networks on the same pictures. work: where prepare.py leaves them."""
    scratch = f"trained here from scratch, {epochs} epochs: its accuracy is that of such a training, not the model's"
    random = "its weights are random: the pre-trained teacher is on no package registry"
    yolo, folder = "ultralytics_segment", work / "ultralytics"
    model = work / "anomalib" / "weights" / "openvino" / "model.xml"
    return [
        Entrant("anomalib EfficientAD-S", "anomalib_efficientad", "anomalib_efficientad", model, unjudged=random),
        Entrant("YOLO11n-seg torch", yolo, yolo, folder / "model.pt", note=scratch),
        Entrant("YOLO11n-seg openvino", yolo, yolo, folder / "model_openvino_model", note=scratch),
    ]


def our_forms(bundles: Sequence[Path], thresholds: Sequence[float], backends: Sequence[str]) -> list[Entrant]:
    return [
        Entrant(f"{path.name.removesuffix('.bundle')} {name}", OURS, OURS, path, threshold, {"backend": name})
        for path, threshold in zip(bundles, thresholds, strict=True)
        for name in backends
    ]


def chosen(entrants: Sequence[Entrant], wanted: str) -> list[Entrant]:
    """Those whose script or name is in a comma-separated list, or all. The plain peer is always among them.

    Raises ValueError on a name that none of them has.
    """
    words = [word.strip() for word in wanted.split(",") if word.strip()]
    if words == ["all"]:
        return list(entrants)
    unknown = [word for word in words if not any(word in (one.name, one.script) for one in entrants)]
    if unknown:
        raise ValueError(f"{unknown[0]}: unknown, wanted all or some of {sorted({one.script for one in entrants})}")
    return [one for one in entrants if one.name == PLAIN or {one.name, one.script} & set(words)]
