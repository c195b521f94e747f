"""Records with chosen samples. Import: `from tests.bench.made_records import made_line, made_record`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from segdec_edge.bench.record import (
    Accuracy,
    BenchRecord,
    Code,
    Conditions,
    Cost,
    Floor,
    Line,
    Machine,
    Quantiles,
    Settings,
)
from segdec_edge.bundle import utc_now

SITTINGS, ROUNDS = 6, 8


def made_line(name: str, ms: float, *, backend: str = "onnxruntime", seed: int = 0, **changes: Any) -> Line:
    """A line whose calls take `ms`, 2 % up and down."""
    samples = ms * np.exp(np.random.default_rng(seed).normal(0, 0.02, (SITTINGS, ROUNDS)))
    p50, p90, p95, p99 = (float(np.quantile(samples, share)) for share in (0.5, 0.9, 0.95, 0.99))
    values: dict[str, Any] = {
        "key": f"{name} {backend} b1",
        "name": name,
        "backend": backend,
        "batch": 1,
        "precision": "fp32",
        "size_hw": (128, 64),
        "sha256": "a" * 64,
        "size_bytes": 1000,
        "latency": Quantiles(p50=p50, p90=p90, p95=p95, p99=p99, max=float(samples.max()), count=samples.size),
        "per_picture_ms": p50,
        "stages": {"prepare": 0.1, "infer": p50, "decide": 0.01, "device": None, "copy_in": None, "copy_out": None},
        "samples": {"infer": tuple(tuple(map(float, row)) for row in samples)},
        "device_time": False,
        "cost": Cost(load_ms=10.0),
        "accuracy": Accuracy(ap=0.98, fp=1, fn=2, pictures=40, threshold=0.5),
    }
    return Line(**{**values, **changes})


def made_floor(operations: int = 10**9, achieved: float = 0.4) -> Floor:
    return Floor(
        operations=operations,
        bytes=10**7,
        compulsory_bytes=10**6,
        floor_ms=4.0,
        layers_ms=5.0,
        achieved=achieved,
        bound="compute",
        ceiling="made up",
    )


def made_record(*lines: Line, machine: Mapping[str, Any] | None = None, **changes: Any) -> BenchRecord:
    known: dict[str, Any] = {
        "cpu": "a CPU", "cores": 2, "features": ("AVX2",), "memory_gib": 8.0, "gpus": (), "board": None,
        "jetpack": None, "system": "Linux",
    }  # fmt: skip
    now = Conditions(
        when=utc_now(), load=None, governor=None, clocks_mhz=None, power_mode=None, temperature_c=None, gpu=None
    )
    values: dict[str, Any] = {
        "machine": Machine(**{**known, **(machine or {})}),
        "before": now,
        "after": now,
        "code": Code(segdec_edge="0", commit=None, dirty=None, python="3", versions={"onnxruntime": "1"}),
        "settings": Settings(
            rounds=48, sittings=6, warm_up=2, untimed=1, calls=3, seed=0, threads=None,
            pictures="made", source_hw=(128, 64), data="folder:parts", subset="test",
        ),
        "lines": lines,
        "not_run": (),
        "ceilings": {},
        "seconds": 1.0,
        "order": (),
    }  # fmt: skip
    return BenchRecord(**{**values, **changes})
