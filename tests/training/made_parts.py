"""Small made-up parts as a user's folder, so that a whole training runs in seconds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


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
