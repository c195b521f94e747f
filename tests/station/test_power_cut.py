"""kill -9 of a working station at random moments: nothing that it acknowledged is lost, nothing is there twice."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture
def power_cut() -> ModuleType:
    """benchmarks/power_cut.py, which does this 50 times."""
    path = Path(__file__).parents[2] / "benchmarks" / "power_cut.py"
    spec = importlib.util.spec_from_file_location("power_cut", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_kill_at_any_moment_loses_nothing_acknowledged(power_cut: ModuleType, tmp_path: Path, pictures: Path) -> None:
    moments = np.random.default_rng().uniform(0.0, 0.7, 4).tolist()
    acknowledged = [part for after_s in moments for part in power_cut.killed(pictures, tmp_path, after_s, False)]
    found = power_cut.judged(tmp_path, [part.strip() for part in acknowledged])
    assert found["acknowledged"] >= 4
    assert (found["lost"], found["doubled"], found["triggers_without_verdict"]) == (0, 0, 0), moments
    assert found["ledger_is_whole"]
    assert found["archive_counts_right"]
    assert found["runs"] == 4
