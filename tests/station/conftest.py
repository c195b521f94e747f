"""Pictures, a fake backend and a whole station for the loop's tests, a bundle and recipes for those of a change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import pytest

from segdec_edge.cameras.replay import ReplayCamera
from segdec_edge.config.recipes import RecipeConfig
from segdec_edge.decision import Rule
from segdec_edge.outputs.archive import Archive
from segdec_edge.outputs.ledger import Ledger, Row, read_rows
from segdec_edge.station.inspection import Inspector
from segdec_edge.station.loop import new_run_id, run_station
from segdec_edge.station.recipes import Recipes
from segdec_edge.station.recorder import Recorder
from segdec_edge.station.statistics import RunSummary
from segdec_edge.station.stop import Stop
from segdec_edge.types import Backend, Label, Verdict
from tests.deploy.bright_parts import bright_bundle
from tests.fakes import FAKE_SPEC, FakeBackend, plain_part
from tests.station.live_station import made_lid
from tests.station.made_recipes import inspectors


@pytest.fixture
def fake_backend():
    """The class FakeBackend(judge, spec)."""
    return FakeBackend


@pytest.fixture
def fake_spec():
    return FAKE_SPEC


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """20 pictures; brightness is the score, and every fifth (0, 5, 10, 15) is above one half."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(20):
        value = 200 if number % 5 == 0 else 50 + number
        cv2.imwrite(str(folder / f"{number:02}.png"), plain_part(value, (40, 60)))
    return folder


@pytest.fixture
def make_verdict() -> Callable[..., Verdict]:
    def make(sequence: int = 0, label: Label = Label.OK, **changes: object) -> Verdict:
        values: dict[str, object] = {
            "part_id": f"run-{sequence:06d}",
            "sequence": sequence,
            "label": label,
            "score": 0.25,
            "threshold": 0.5,
            "reason": "because",
            "captured_ns": 1,
            "decided_ns": 2,
            "latency_ms": 1.0,
            "bundle_sha256": "ab" * 32,
            "source": f"{sequence}.png",
        }
        return Verdict(**(values | changes))  # type: ignore[arg-type]

    return make


@dataclass
class Station:
    """A station on a folder: the real camera, ledger, archive, recorder and loop around a given backend."""

    base: Path
    threshold: float = 0.5
    keep: str = "defect"
    camera: dict[str, object] = field(default_factory=dict)

    @property
    def rows(self) -> list[Row]:
        rows = read_rows(self.base / "ledger.sqlite")
        return sorted(rows, key=lambda row: (row.run_id, row.sequence))  # a lost picture has its verdict at once

    def run(self, source: Path, backend: Backend, stop: Stop | None = None, timeout_s: float = 1.0) -> RunSummary:
        run_id = new_run_id()
        ledger = Ledger(self.base / "ledger.sqlite", run_id)
        try:
            with ReplayCamera(source, **self.camera) as camera:
                return run_station(
                    camera,
                    Inspector(backend, Rule(self.threshold), backend.spec.sha256),
                    Recorder(ledger, Archive(self.base / "archive", self.keep)),
                    run_id=run_id,
                    timeout_s=timeout_s,
                    stop=stop,
                )
        finally:
            ledger.close()


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


@pytest.fixture
def lid(tmp_path: Path) -> Path:
    return made_lid(tmp_path)


@pytest.fixture
def recipes(lid: Path) -> Recipes:
    """lid and cup judge with the same bundle, cup at another threshold; the others cannot be used."""
    bare = bright_bundle(lid.parent / "bare.bundle", None).path
    table = {
        "lid": RecipeConfig(bundle=lid, backend="onnxruntime"),
        "cup": RecipeConfig(bundle=lid, backend="onnxruntime", threshold=0.3),
        "bare": RecipeConfig(bundle=bare, backend="onnxruntime"),
        "unchecked": RecipeConfig(bundle=bare, backend="onnxruntime", self_check=False),
        "missing": RecipeConfig(bundle=lid.with_name("none.bundle")),
        "blind": RecipeConfig(bundle=lid, backend="onnxruntime", threshold=0.99),
        "strict": RecipeConfig(bundle=lid, backend="onnxruntime", threshold=0.01),
        "nowhere": RecipeConfig(bundle=lid, backend="onnxruntime", reference=lid / "none"),
    }
    return Recipes(table, inspectors)
