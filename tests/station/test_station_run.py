"""A whole station from its station.toml: a real bundle on a real runtime, a replayed folder, a ledger, an archive."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from segdec_edge.bundle import InputFacts, Meta, OutputFacts, Threshold, model_facts, utc_now, write_bundle
from segdec_edge.config.station import load_station
from segdec_edge.errors import BundleError, CameraError, OutputError
from segdec_edge.outputs.ledger import Ledger, read_rows
from segdec_edge.station.run import run

SIDE = 32


def brightness_model() -> bytes:
    """ONNX whose score is the picture's mean brightness, and whose heat map is that of 8×8 blocks."""
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=kinds.FLOAT),
        helper.make_node("Div", ["float", "white"], ["unit"]),
        helper.make_node("Transpose", ["unit"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["nchw"], ["blocks"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Squeeze", ["blocks", "one"], ["heatmap"]),
        helper.make_node("ReduceMean", ["heatmap"], ["score"], axes=[1, 2], keepdims=0),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.float32(255).reshape(1), "white"),
        onnx.numpy_helper.from_array(np.array([1], np.int64), "one"),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("pixels", kinds.UINT8, ["N", SIDE, SIDE, 1])],
        [
            helper.make_tensor_value_info("score", kinds.FLOAT, ["N"]),
            helper.make_tensor_value_info("heatmap", kinds.FLOAT, ["N", SIDE // 8, SIDE // 8]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture
def station_toml(tmp_path: Path, pictures: Path) -> Path:
    onnx_bytes = brightness_model()
    meta = Meta(
        segdec_edge="0",
        created=utc_now(),
        input=InputFacts(size_hw=(SIDE, SIDE), channels=1, colour="grey"),
        outputs=OutputFacts(heatmap_hw=(SIDE // 8, SIDE // 8)),
        threshold=Threshold(value=0.5, source="test"),
        model=model_facts(onnx_bytes, opset=17, simplified=False),
    )
    write_bundle(tmp_path / "parts.bundle", onnx_bytes=onnx_bytes, meta=meta)
    path = tmp_path / "station.toml"
    path.write_text(
        '[station]\nname = "line 3"\nbundle = "parts.bundle"\nbackend = "onnxruntime"\n[camera]\npath = "pictures"\n'
    )
    return path


def test_station_runs_from_its_file(station_toml: Path) -> None:
    (station_toml.parent / "pictures" / "04.png").write_bytes(b"cut")
    out = io.StringIO()
    summary = run(load_station(station_toml), Console(file=out, width=200))
    assert (summary.parts, summary.ok, summary.defect, summary.unknown) == (20, 15, 4, 1)
    rows = list(read_rows(station_toml.parent / "ledger.sqlite", summary.run_id))
    assert sorted(row.sequence for row in rows) == list(range(20))  # a picture that is lost has its verdict first
    assert {row.threshold for row in rows} == {0.5}
    assert len({row.bundle_sha256 for row in rows}) == 1
    assert len(list((station_toml.parent / "archive").rglob("*.png"))) == 4
    first, *_, last = out.getvalue().splitlines()
    assert first == f"line 3: model {rows[0].bundle_sha256[:12]}, onnxruntime, threshold 0.5"
    assert last.startswith("20 of 20 parts: 15 OK, 4 DEFECT, 1 UNKNOWN;")


def test_threshold_of_its_own_counts_and_is_logged(station_toml: Path, caplog: pytest.LogCaptureFixture) -> None:
    station_toml.write_text(station_toml.read_text().replace("[camera]", "threshold = 0.9\n[camera]"))
    summary = run(load_station(station_toml))
    assert (summary.ok, summary.defect) == (20, 0)
    assert {row.threshold for row in read_rows(station_toml.parent / "ledger.sqlite")} == {0.9}
    assert "threshold 0.9 from the station's file overrides 0.5" in caplog.text


def test_without_a_threshold_of_its_own_nothing_is_logged(station_toml: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        run(load_station(station_toml))
    assert not caplog.records


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('"pictures"', '"nowhere"', CameraError),
        ('"parts.bundle"', '"nowhere.bundle"', BundleError),
    ],
)
def test_missing_part_is_told_at_the_start_and_leaves_nothing_open(
    station_toml: Path, old: str, new: str, error: type[Exception]
) -> None:
    good = station_toml.read_text()
    station_toml.write_text(good.replace(old, new))
    with pytest.raises(error, match="nowhere"):
        run(load_station(station_toml))
    station_toml.write_text(good)
    assert run(load_station(station_toml)).parts == 20  # the ledger is free again


def test_ledger_in_use_is_told(station_toml: Path) -> None:
    ledger = Ledger(station_toml.parent / "ledger.sqlite", "other")
    try:
        with pytest.raises(OutputError, match="another station"):
            run(load_station(station_toml))
    finally:
        ledger.close()


def test_several_cameras_share_a_backend_or_have_their_own(station_toml: Path) -> None:
    text = station_toml.read_text()
    (two,) = ["".join(f'[[cameras]]\nname = "{name}"\npath = "pictures"\n' for name in ("left", "right"))]
    for own in (False, True):
        head = text.split("[camera]")[0] + f"own_backends = {str(own).lower()}\nbatch_ms = 20\n"
        station_toml.write_text(head + two)
        summary = run(load_station(station_toml))
        assert (summary.parts, summary.ok, summary.defect) == (40, 32, 8)
        rows = list(read_rows(station_toml.parent / "ledger.sqlite", summary.run_id))
        for camera in ("left", "right"):
            own_rows = [row for row in rows if row.camera == camera]
            assert [row.sequence for row in own_rows] == list(range(20))
            assert own_rows[3].part_id == f"{summary.run_id}-{camera}-000003"


def test_a_full_ledger_is_an_error_at_the_end_and_inspection_went_on(
    station_toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self, verdicts) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(Ledger, "write_all", refuse)
    with pytest.raises(OutputError, match="20 parts were decided but not recorded"):
        run(load_station(station_toml))


def test_stages_are_measured(station_toml: Path) -> None:
    stages = run(load_station(station_toml)).stages
    assert [one.stage for one in stages] == ["prepare", "wait", "infer", "decide", "issue", "record"]
    assert all(0 < one.p50_ms <= one.p99_ms for one in stages)
