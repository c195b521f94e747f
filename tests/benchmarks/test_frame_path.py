"""What a frame costs around its inference, told from each frame itself."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from segdec_edge.station.statistics import Statistics
from segdec_edge.types import Label

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def frame_path(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("frame_path")


def verdict(latency_ms: float) -> SimpleNamespace:
    return SimpleNamespace(latency_ms=latency_ms, label=Label.OK)


def test_each_frame_tells_its_own_time_around_inference(frame_path: ModuleType) -> None:
    kept = frame_path.FrameTimes(Statistics("run"))
    for infer_ms in (10.0, 500.0, 20.0):  # two quantiles of a histogram would be 2.5 ms off at 500
        kept.add(verdict(infer_ms + 0.3), stage_ms={"infer": infer_ms})
    kept.add(verdict(900.0), lost=True, stage_ms={"infer": 1.0})
    kept.add(verdict(900.0), stage_ms={})
    assert kept.around_ms == pytest.approx([0.3, 0.3, 0.3])
    assert kept.summary().parts == 5


def test_the_interval_is_over_whole_turns(frame_path: ModuleType) -> None:
    rng = np.random.default_rng(0)
    turns = [list(1 + offset + 0.001 * rng.standard_normal(100)) for offset in (-0.2, -0.1, 0.0, 0.1, 0.2)]
    middle, (low, high) = frame_path.over_turns(turns)
    assert middle == pytest.approx(1.0, abs=0.01)
    assert 0.1 < high - middle < 0.6 and high - middle == pytest.approx(middle - low)  # of 500 single frames: 0.001
    assert frame_path.over_turns(turns[2:3])[1] is None
    assert frame_path.over_turns([[1.0, 1.0, 9.0], [1.0, 1.0]])[0] == 1.0
