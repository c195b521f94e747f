"""Counted operations against the network's own count; floors and predictions against arithmetic by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from segdec_edge.bench.count import LayerCost, compulsory_bytes, count_layers, layers_of
from segdec_edge.bench.peaks import ceilings
from segdec_edge.bench.predict import Board, board_floors, board_named, boards, in_words, predict, seen_in
from segdec_edge.bench.record import Ceiling
from segdec_edge.bench.roofline import best_of, ceiling_name, floor_of, peak_for
from segdec_edge.bundle import Bundle
from segdec_edge.deploy.graph_read import read_network
from segdec_edge.deploy.network import operations
from segdec_edge.errors import BundleError, ConfigError
from tests.bench.made_records import made_floor, made_line, made_record
from tests.deploy.made_bundles import made_bundle

CEILING = Ceiling(ops_per_s={"fp32": 1e9, "int8": 4e9}, bytes_per_s=1e8, how="made up")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return made_bundle(tmp_path_factory.mktemp("counted"))


def test_the_graph_costs_what_the_network_costs(bundle: Bundle) -> None:
    wanted = operations(read_network(bundle.model_path.read_bytes()), bundle.spec.size_hw)
    found = {layer.name: layer.operations for layer in layers_of(bundle) if layer.kind == "Conv"}
    assert found == wanted
    assert all(layer.precision == "fp32" for layer in layers_of(bundle))


def test_a_batch_costs_its_pictures_but_its_weights_once(bundle: Bundle) -> None:
    one, four = layers_of(bundle, 1), layers_of(bundle, 4)
    assert [layer.operations for layer in four] == [4 * layer.operations for layer in one]
    assert [layer.moved_bytes for layer in four] == [4 * layer.moved_bytes for layer in one]
    assert [layer.weight_bytes for layer in four] == [layer.weight_bytes for layer in one]
    pictures = compulsory_bytes(four, bundle, 4) - compulsory_bytes(one, bundle, 1)
    assert pictures == 3 * (128 * 64 + 4 * 16 * 8)


def quantised_graph() -> bytes:
    """pixels float (1, 2, 8, 8) → Q → DQ → Conv 3×3 to 4 channels with INT8 weights → Relu → Q → DQ."""
    constants = {
        "s": numpy_helper.from_array(np.float32(0.1), "s"),
        "z": numpy_helper.from_array(np.int8(0), "z"),
        "w8": numpy_helper.from_array(np.ones((4, 2, 3, 3), "int8"), "w8"),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w8", "s", "z"], ["wd"]),
        helper.make_node("Conv", ["xd", "wd"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["rq"]),
        helper.make_node("DequantizeLinear", ["rq", "s", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 8, 8])],
        list(constants.values()),
    )
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())


def test_a_quantised_layer_moves_bytes_where_floats_stood() -> None:
    (layer,) = count_layers(quantised_graph(), batch=3)
    assert layer == LayerCost(
        name="conv",
        kind="Conv",
        precision="int8",
        operations=3 * 2 * (4 * 2 * 9) * 64,
        weight_bytes=4 * 2 * 9,
        moved_bytes=3 * (2 * 64 + 4 * 64),
    )


def test_a_graph_without_shapes_is_refused() -> None:
    model = onnx.load_from_string(quantised_graph())
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "h"
    with pytest.raises(BundleError, match="cannot be counted"):
        count_layers(model.SerializeToString())


def test_a_floor_is_the_slower_of_computing_and_moving() -> None:
    busy = LayerCost("a", "Conv", "fp32", 10_000_000, 1000, 2000)
    wide = LayerCost("b", "Conv", "int8", 4_000_000, 1000, 499_000)
    found = floor_of([busy, wide], compulsory=2_000, ceiling=CEILING, median_ms=22.0)
    assert found is not None
    assert found.floor_ms == pytest.approx(10 + 1)
    assert found.layers_ms == pytest.approx(10 + 5)
    assert (found.bound, found.achieved) == ("compute", pytest.approx(0.5))
    moving = floor_of([wide], compulsory=1_000_000, ceiling=CEILING, median_ms=20.0)
    assert moving is not None and (moving.bound, moving.floor_ms) == ("memory", pytest.approx(10))


def test_a_precision_without_a_peak_runs_at_the_next_wider_ones() -> None:
    assert peak_for("fp16", CEILING) == 1e9
    assert peak_for("int8", CEILING) == 4e9
    assert peak_for("fp32", Ceiling(ops_per_s={"int8": 1.0}, bytes_per_s=None, how="")) is None
    assert floor_of([], 10, CEILING, 1.0) is None


def test_the_peaks_are_the_machines_whoever_reaches_them() -> None:
    pytest.importorskip("torch")
    assert ceilings([], threads=1) == {}
    assert (ceiling_name("tensorrt/sm87-fp16"), ceiling_name("openvino")) == ("gpu", "cpu")
    found = ceilings(["onnxruntime", "openvino", "torch"], threads=1)
    assert set(found) == {"cpu"}
    assert set(found["cpu"].ops_per_s) == {"fp32", "bf16", "int8"}
    assert found["cpu"].ops_per_s["int8"] >= found["cpu"].ops_per_s["fp32"] > 1e8
    assert (found["cpu"].bytes_per_s or 0) > 1e7
    assert "int8 by" in found["cpu"].how


def test_of_two_measurements_the_undisturbed_one_counts() -> None:
    other = Ceiling(ops_per_s={"fp32": 3e9, "int8": 2e9}, bytes_per_s=5e7, how="made up")
    found = best_of({"a": CEILING, "b": CEILING}, {"a": other})
    assert (found["a"].ops_per_s, found["a"].bytes_per_s) == ({"fp32": 3e9, "int8": 4e9}, 1e8)
    assert found["b"] == CEILING


def test_every_board_says_where_its_figures_come_from() -> None:
    table = boards()
    assert {"orin-nano-super", "orin-nx-16", "agx-orin-64", "xavier-nx", "agx-thor"} <= set(table.boards)
    for board in table.boards.values():
        assert len(board.source) > 20
        assert board.int8 is None or board.fp16 is None or board.int8 == pytest.approx(2 * board.fp16, rel=0.02)
    assert all(len(seen.source) > 10 for seen in table.seen)
    assert table.boards["agx-thor"].basis == "second-hand"


def test_what_was_seen_is_arithmetic_on_published_figures() -> None:
    """In the words of each row: operations, board and milliseconds; the share follows from them."""
    peaks = {"Orin Nano Super": board_named("orin-nano-super"), "Orin Nano": None}
    for seen in boards().seen:
        found = re.search(r"\(([\d.]+) GFLOP\).*(Orin Nano(?: Super)?)(?: \((\d+) dense.*\))?, ([\d.]+) ms", seen.what)
        assert found is not None, seen.what
        board = peaks[found[2]]
        peak = float(found[3]) * 1e12 if board is None else getattr(board, seen.precision)
        assert seen.achieved == pytest.approx(float(found[1]) * 1e9 / peak / float(found[4]) * 1e3, rel=0.01), seen.what


def test_a_board_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="orin-nano-super"):
        board_named("orin")


def test_a_prediction_is_a_range_from_the_floor_up(bundle: Bundle) -> None:
    board = Board(name="a board", source="made up", basis="stated", fp16=1e9, int8=2e9, memory=1e12)
    fp16, int8 = predict(bundle, board)
    counted = sum(layer.operations for layer in layers_of(bundle)) / 1e6
    assert fp16.least_ms == pytest.approx(counted, rel=1e-3)
    assert int8.least_ms == pytest.approx(counted / 2, rel=1e-3)
    assert fp16.most_ms == pytest.approx(counted / 0.176, rel=1e-3)
    text = in_words(bundle, board, 1, (fp16, int8))
    assert text.startswith("PREDICTED, NOT MEASURED")
    assert "how sure: little" in text and "Peaks, as the vendor states them: made up." in text
    assert predict(bundle, board, batch=2)[0].least_ms == pytest.approx(2 * counted, rel=1e-3)


def test_own_measurements_narrow_the_range(bundle: Bundle) -> None:
    board = Board(name="a board", source="made up", basis="stated", fp16=1e9)
    lines = [
        made_line(f"l{share}", 10.0, backend="tensorrt/sm87-fp16", precision="fp16", floor=made_floor(achieved=share))
        for share in (0.4, 0.5, 0.6)
    ]
    cpu = made_line("cpu", 10.0, precision="fp16", floor=made_floor(achieved=0.01))
    own = seen_in([made_record(*lines, cpu, machine={"gpus": ("a GPU",)})])
    assert [seen.achieved for seen in own] == [0.4, 0.5, 0.6]
    (fp16,) = predict(bundle, board, own=own)
    assert fp16.most_ms / fp16.least_ms == pytest.approx(1.5)
    mixed = made_line("m", 1.0, backend="tensorrt/sm86-mixed", precision="mixed", floor=made_floor(achieved=0.3))
    assert [seen.precision for seen in seen_in([made_record(mixed)])] == ["int8"]
    (few,) = predict(bundle, board, own=own[:2])
    assert few.most_ms / few.least_ms == pytest.approx(1 / 0.176, rel=1e-3)


def test_floors_leave_out_the_boards_whose_peak_is_not_known(bundle: Bundle) -> None:
    layers = layers_of(bundle)
    fp32 = board_floors(layers, 0)
    assert set(fp32) == set(boards().boards)
    work = sum(layer.operations for layer in layers)
    assert fp32["orin-nano-super"] == pytest.approx(work / 16.7e12 * 1e3)
    narrow = [replace(layer, precision="int8") for layer in layers]
    assert set(fp32) - set(board_floors(narrow, 0)) == {"agx-thor"}


def test_a_board_without_the_peak_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no certain peak"):
        predict(bundle, Board(name="bare", source="nothing is known", basis="stated"))
