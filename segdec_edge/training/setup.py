"""Device, precision and memory layout; examples onto the device. Knows no loss."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segdec_edge.config.train import TrainSettings
from segdec_edge.data.targets import Example
from segdec_edge.errors import TrainingError
from segdec_edge.training.parallel import ALONE, Ranks

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Batch:
    """pixels (B, C, H, W) in [0, 1]; mask and weights (B, 1, h, w); label (B,) 0 or 1; has_mask (B,) bool;
    unmasked (B,): 1 for a defective picture nobody annotated."""

    pixels: Tensor
    mask: Tensor
    weights: Tensor
    label: Tensor
    has_mask: Tensor
    unmasked: Tensor


@dataclass(frozen=True)
class Hardware:
    """Where and how precisely training computes; precision is fp32, bf16 or fp16 (never auto)."""

    device: torch.device
    precision: str
    channels_last: bool

    @property
    def scale_gradients(self) -> bool:
        return self.precision == "fp16"

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=_DTYPES[self.precision], enabled=self.precision != "fp32")

    def batch(self, examples: Sequence[Example]) -> Batch:
        """Stack examples on the device."""
        pixels = torch.from_numpy(np.stack([example.pixels for example in examples])).to(self.device)
        label = self._column([float(example.positive) for example in examples])
        has_mask = self._column([float(example.has_mask) for example in examples])
        return Batch(
            pixels=(pixels.permute(0, 3, 1, 2).float() / 255).contiguous(memory_format=self.memory_format),
            mask=self._maps([example.mask for example in examples]),
            weights=self._maps([example.weights for example in examples]),
            label=label,
            has_mask=has_mask > 0,
            unmasked=label * (1 - has_mask),
        )

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=self.device)

    def _maps(self, maps: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(maps))[:, None].to(self.device)


def choose_hardware(settings: TrainSettings, ranks: Ranks = ALONE) -> Hardware:
    """Resolve auto settings on this machine; of several processes each gets a GPU of its own.

    Raises TrainingError on a device that is not there, or on more processes than GPUs.
    """
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if ranks.several:
        name = _own_device(name, ranks)
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError(f"{device.type} is not supported")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"device {name} cannot be used ({reason}). Use device = 'cpu' or 'auto'.") from error
    precision = auto_precision(device) if settings.precision == "auto" else settings.precision
    return Hardware(device, precision, settings.channels_last)


def _own_device(name: str, ranks: Ranks) -> str:
    if name == "cpu":
        return name
    if name != "cuda":
        raise TrainingError(
            f"device {name} with {ranks.world} processes, wanted 'cuda' (each takes its own GPU), 'cpu' or 'auto'."
        )
    if ranks.local_world > torch.cuda.device_count():
        raise TrainingError(
            f"{ranks.local_world} processes on a machine with {torch.cuda.device_count()} GPUs, wanted one each."
            " Lower --nproc-per-node, or set device = 'cpu'."
        )
    torch.cuda.set_device(ranks.local_rank)
    return f"cuda:{ranks.local_rank}"


def make_deterministic(seed: int) -> None:
    """Same seed, same machine, same thread count: same weights."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def auto_precision(device: torch.device) -> str:
    """bf16 where the device computes in it natively, else fp32."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    # Without native instructions bfloat16 on CPU is emulated and slower than float32.
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() and _has_bf16_instructions() else "fp32"


def _has_bf16_instructions() -> bool:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
