"""A graph whose scores all moved gets them back where the shipped threshold expects them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from segdec_edge.bundle import Bundle
from segdec_edge.data.samples import Sample
from segdec_edge.deploy.gate import dataset_of
from segdec_edge.deploy.operating_point import moved_back, operating_point
from segdec_edge.deploy.shift import score_graph
from segdec_edge.errors import QuantizeError
from tests.deploy.made_bundles import SPEC, made_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return made_bundle(tmp_path_factory.mktemp("point"))


@pytest.fixture(scope="module")
def training(bundle: Bundle) -> tuple[Sample, ...]:
    split = bundle.split()
    assert split is not None
    return tuple(dataset_of(bundle, SPEC).named(split["train"]))


def moved(content: bytes, offset: float, *, without_bias: bool = False) -> bytes:
    model = onnx.load_from_string(content)
    (gemm,) = (node for node in model.graph.node if node.op_type == "Gemm")
    for one in model.graph.initializer:
        if one.name == gemm.input[2]:
            one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one) + np.float32(offset), one.name))
    if without_bias:
        del gemm.input[2]
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("offset", [-1.5, 0.75])
def test_what_was_moved_comes_back(bundle: Bundle, training: tuple[Sample, ...], offset: float) -> None:
    original, said = bundle.model_path.read_bytes(), []
    content, back = moved_back(moved(original, offset), original, bundle.spec, training, "onnxruntime", said.append)
    assert back == pytest.approx(-offset, abs=1e-3)
    assert said == [f"scoring {len(training)} training pictures to find those near the threshold"]
    old, new = (score_graph(one, bundle.spec, "onnxruntime", training[:4]) for one in (original, content))
    assert [one.score for one in new] == pytest.approx([one.score for one in old], abs=1e-4)


def test_pictures_of_one_kind_move_nothing(bundle: Bundle, training: tuple[Sample, ...]) -> None:
    content = moved(bundle.model_path.read_bytes(), 1.0)
    good = [sample for sample in training if not sample.positive]
    assert moved_back(content, bundle.model_path.read_bytes(), bundle.spec, good, "onnxruntime", str) == (content, 0.0)


def test_a_graph_without_that_bias_is_refused(bundle: Bundle, training: tuple[Sample, ...]) -> None:
    original = bundle.model_path.read_bytes()
    with pytest.raises(QuantizeError, match="no fully connected layer with a bias"):
        bare = moved(original, 0.0, without_bias=True)
        moved_back(bare, original, bundle.spec, training, "onnxruntime", str)


def test_the_point_lies_between_the_kinds_where_the_threshold_would() -> None:
    defective = np.array([False, False, True, True])
    assert operating_point(defective, np.array([-3.0, -1.0, 2.0, 5.0])) == 0.5
    # the best F takes the lowest defective one with one good one below it
    assert operating_point(defective, np.array([-3.0, 1.0, 0.5, 5.0])) == pytest.approx(-1.25)
    assert operating_point(np.array([True, False]), np.array([-60.0, 60.0])) == -60.0
