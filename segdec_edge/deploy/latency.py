"""How long one picture takes on a backend, several artefacts in turns so that a busy minute hits all alike.

Host time of infer() alone, batch 1, the same real pictures for all. Not the benchmark (segdec bench): enough to rank.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from segdec_edge.timing import Turn, Visit, quantile, sit_down, stage_of
from segdec_edge.types import Backend, Pixels

Key = TypeVar("Key", bound=Hashable)
ROUNDS = 20
_VISIT, _INFER = Visit(untimed=1, calls=1), "infer"


@dataclass(frozen=True)
class Latency:
    """Milliseconds a picture; rounds measured."""

    median_ms: float
    p90_ms: float
    rounds: int


def latencies(backends: Mapping[Key, Backend], pictures: Sequence[Pixels], rounds: int = ROUNDS) -> dict[Key, Latency]:
    """Median and 90th percentile of each backend. pictures: prepared, (H, W, C) uint8; two a round, the second timed.

    Raises BackendError.
    """
    turns = {name: _turn_of(backend, pictures) for name, backend in backends.items()}
    sitting = sit_down(turns, rounds, np.random.default_rng(0), visit=_VISIT)
    taken = {name: stage_of([sitting], name, _INFER) for name in backends}
    return {name: Latency(quantile(ms, 0.5), quantile(ms, 0.9), rounds) for name, ms in taken.items()}


def _turn_of(backend: Backend, pictures: Sequence[Pixels]) -> Turn:
    def turn(index: int) -> Mapping[str, float]:
        picture = pictures[index % len(pictures)][None]
        start = time.perf_counter_ns()
        backend.infer(picture)
        return {_INFER: (time.perf_counter_ns() - start) / 1e6}

    return turn
