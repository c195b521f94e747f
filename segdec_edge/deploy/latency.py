"""How long one picture takes on a backend, several artefacts in turns so that a busy minute hits all alike.

Host time of infer() alone, batch 1, the same real pictures for all. Not the benchmark (segdec bench): enough to rank.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from segdec_edge.types import Backend, Pixels

Key = TypeVar("Key", bound=Hashable)
ROUNDS = 20
_WARM_UP = 2


@dataclass(frozen=True)
class Latency:
    """Milliseconds a picture; rounds measured."""

    median_ms: float
    p90_ms: float
    rounds: int


def latencies(backends: Mapping[Key, Backend], pictures: Sequence[Pixels], rounds: int = ROUNDS) -> dict[Key, Latency]:
    """Median and 90th percentile of each backend. pictures: prepared, (H, W, C) uint8; one a round, by turns.

    Raises BackendError.
    """
    for backend in backends.values():
        for _ in range(_WARM_UP):
            backend.infer(pictures[0][None])
    taken: dict[Key, list[float]] = {name: [] for name in backends}
    for index in range(rounds):
        picture = pictures[index % len(pictures)][None]
        for name, backend in backends.items():
            start = time.perf_counter_ns()
            backend.infer(picture)
            taken[name].append((time.perf_counter_ns() - start) / 1e6)
    return {
        name: Latency(float(np.median(values)), float(np.percentile(values, 90)), rounds)
        for name, values in taken.items()
    }
