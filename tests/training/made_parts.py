"""Small made-up parts as a user's folder, so that a whole training runs in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from segdec_edge.config.train import TrainSettings, train_settings
from segdec_edge.model.checkpoint import load_checkpoint
from segdec_edge.training.records import EpochRecord


def write_parts(root: Path, good: int, defective: int, size_hw: tuple[int, int] = (64, 128)) -> Path:
    """Noisy grey parts; a defect is a dark bar. images/ with masks/."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for index in range(good + defective):
        picture = rng.normal(150, 8, size_hw).clip(0, 255).astype(np.uint8)
        if index < defective:
            mask = np.zeros(size_hw, np.uint8)
            top, left = int(rng.integers(8, 40)), int(rng.integers(8, 90))
            mask[top : top + 10, left : left + 24] = 255
            mask[-6:, :4] = 255  # a second, smaller region
            picture[mask > 0] = 60
            cv2.imwrite(str(root / "masks" / f"p{index:03d}.png"), mask)
        cv2.imwrite(str(root / "images" / f"p{index:03d}.png"), picture)
    return root


class Quiet:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.records: list[EpochRecord] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def preparing(self, done: int, total: int) -> None: ...

    def step(self, epoch: int, done: int, total: int, loss: float) -> None: ...

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        self.records.append(record)


class Interrupted(Quiet):
    """Ends a training after an epoch, as Ctrl-C does."""

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        raise KeyboardInterrupt


def settings(parts: Path, **changes: Any) -> TrainSettings:
    values = {
        "data": f"folder:{parts}", "size_hw": [64, 128], "width": 0.25, "epochs": 3, "precision": "fp32",
        "device": "cpu", "tensorboard": False, "validation": 0.2, "test": 0.2,
    }  # fmt: skip
    return train_settings({**values, **changes})


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(path).net.state_dict())


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)
