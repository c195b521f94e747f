"""Verdicts and frames for the sinks' tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from segdec_edge.types import Frame, Label, Verdict

RUN_ID = "20260102T030405Z-0a1b2c0a1b2c"


@pytest.fixture
def run_id() -> str:
    return RUN_ID


@pytest.fixture
def make_verdict() -> Callable[..., Verdict]:
    def make(sequence: int = 0, label: Label = Label.DEFECT, **changes: object) -> Verdict:
        values: dict[str, object] = {
            "part_id": f"{RUN_ID}-{sequence:06d}",
            "sequence": sequence,
            "label": label,
            "score": 0.1 + 0.2,  # no short decimal: must come back bit for bit
            "threshold": 0.25,
            "reason": "score at or above 0.25",
            "captured_ns": 1_700_000_000_123_456_789 + sequence,
            "decided_ns": 1_700_000_000_223_456_789 + sequence,
            "latency_ms": 100.25,
            "bundle_sha256": "ab" * 32,
            "source": f"pictures/{sequence}.png",
            "heatmap": np.full((4, 4), 0.5, np.float32),
        }
        return Verdict(**(values | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_frame() -> Callable[..., Frame]:
    def make(sequence: int = 0, shape: tuple[int, ...] = (32, 48)) -> Frame:
        pixels = np.random.default_rng(sequence).integers(0, 255, shape).astype(np.uint8)
        return Frame(pixels, sequence, 1, 1, f"pictures/{sequence}.png")

    return make
