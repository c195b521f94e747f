"""Bundles whose score is the picture's mean brightness, with chosen exceptions, and pictures of chosen brightness.

Real graphs for real runtimes, made in a moment and without torch: a test says what each picture scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from segdec_edge import __version__
from segdec_edge.bundle import (
    DIGEST,
    META,
    Bundle,
    InputFacts,
    Meta,
    ModelFacts,
    OutputFacts,
    Step,
    Threshold,
    digest_of,
    model_facts,
    utc_now,
    write_bundle,
)

SIZE_HW = (16, 16)
GOOD = (20, 30, 40, 50, 60, 70, 80, 90, 100, 110)
DEFECTIVE = (120, 150, 180, 200, 220)
"""The first of them is missed at the threshold."""
TRAINED = (25, 190)
THRESHOLD = 0.5


def write_parts(folder: Path) -> str:
    """A folder data set with a picture of each level; gives its spec."""
    for kind, levels in (("good", (*GOOD, TRAINED[0])), ("defect", (*DEFECTIVE, TRAINED[1]))):
        (folder / kind).mkdir(parents=True)
        for level in levels:
            cv2.imwrite(str(folder / kind / f"part{level:03}.png"), _picture(level))
    return f"folder:{folder}"


def bright_graph(scores: Mapping[int, float] | None = None, gain: float = 1.0, offset: float = 0.0) -> bytes:
    """score = gain · brightness + offset, brightness in [0, 1]; scores: exceptions for pictures of these levels."""
    constants = {"full": 255.0, "gain": gain, "offset": offset, "near": 0.4 / 255}
    nodes = [
        helper.make_node("Cast", ["pixels"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["cast", "full"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled"], ["bright"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["bright", "gain"], ["stretched"]),
        helper.make_node("Add", ["stretched", "offset"], ["score0"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Squeeze", ["cells", "axis"], ["heatmap"]),
    ]
    last = "score0"
    for index, (level, score) in enumerate((scores or {}).items(), start=1):
        constants |= {f"level{index}": level / 255, f"wanted{index}": score}
        nodes += [
            helper.make_node("Sub", ["bright", f"level{index}"], [f"off{index}"]),
            helper.make_node("Abs", [f"off{index}"], [f"far{index}"]),
            helper.make_node("Less", [f"far{index}", "near"], [f"is{index}"]),
            helper.make_node("Where", [f"is{index}", f"wanted{index}", last], [f"score{index}"]),
        ]
        last = f"score{index}"
    # An Identity would give the tensor two names, of which OpenVINO names any.
    nodes.append(helper.make_node("Max", [last, last], ["score"]))
    height, width = SIZE_HW
    graph = helper.make_graph(
        nodes,
        "bright",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", height, width, 1])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, ["batch", height // 8, width // 8]),
        ],
        [numpy_helper.from_array(np.float32(value), name) for name, value in constants.items()]
        + [numpy_helper.from_array(np.array([1], np.int64), "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def bright_facts(content: bytes) -> ModelFacts:
    return model_facts(content, opset=17, simplified=False)


def bright_bundle(path: Path, spec: str | None, *, split: bool = True, lineage: bool = True) -> Bundle:
    """The plain graph as a bundle that says what it was trained on. spec None: it does not."""
    content = bright_graph()
    facts, now = bright_facts(content), utc_now()
    meta = Meta(
        segdec_edge=__version__,
        created=now,
        input=InputFacts(size_hw=SIZE_HW, channels=1, colour="grey"),
        outputs=OutputFacts(heatmap_hw=(SIZE_HW[0] // 8, SIZE_HW[1] // 8)),
        threshold=Threshold(value=THRESHOLD, source="by hand"),
        model=facts,
        training={"settings": {"data": spec}} if spec else {},
        lineage=(Step(step="export", sha256=facts.sha256, when=now),) if lineage else (),
    )
    subsets = {
        "train": _names(TRAINED[:1], TRAINED[1:]),
        "validation": [],
        "test": _names(GOOD, DEFECTIVE),
        "how": "by hand",
    }
    return write_bundle(path, onnx_bytes=content, meta=meta, split=subsets if split else None)


def trained_on(path: Path, source_hw: tuple[int, int]) -> None:
    """Let a bundle say that its pictures had this size before they were resized."""
    content = json.loads((path / META).read_text())
    content["input"]["source_hw"] = [source_hw, source_hw]
    del content[DIGEST]
    (path / META).write_text(json.dumps({**content, DIGEST: digest_of(content)}))


def _names(good: tuple[int, ...], defective: tuple[int, ...]) -> list[str]:
    return [*(f"good/part{level:03}" for level in good), *(f"defect/part{level:03}" for level in defective)]


def _picture(level: int) -> np.ndarray:
    """A chessboard around the level: its mean is the level exactly, and it is not flat."""
    rows, columns = np.indices(SIZE_HW)
    return (level + 15 * (1 - 2 * ((rows + columns) % 2))).astype(np.uint8)
