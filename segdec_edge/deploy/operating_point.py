"""Where the threshold lies between the scores of known pictures, and a graph moved so that it lies there again.

Needs no torch. A moved score changes no order: average precision stays, verdicts at the shipped threshold come back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from segdec_edge.data.samples import Sample
from segdec_edge.deploy.shift import score_graph, telling
from segdec_edge.errors import QuantizeError
from segdec_edge.evaluation.scoring import ScoredSample
from segdec_edge.evaluation.thresholds import best_f_threshold, logit
from segdec_edge.types import ModelSpec

MOST_LOOKED_AT = 1000
"""Training pictures, evenly spread, that the original scores to find those near the threshold."""
MOST_TELLING = 200


def operating_point(defective: NDArray[np.bool_], logits: NDArray[Any]) -> float:
    """The middle of the interval of logits in which the threshold lies that these pictures would be shipped with.

    The rule is asked about ranks: what it does at scores of nearly 0 or 1 would depend on where the logits lie.
    Both (N,), of both kinds.
    """
    levels, ranks = np.unique(logits, return_inverse=True)
    steps = (ranks + 1) / (len(levels) + 1)
    flagged = steps >= best_f_threshold(defective, steps)
    high = float(logits[flagged].min())
    return high if flagged.all() else (float(logits[~flagged].max()) + high) / 2


def moved_back(
    content: bytes,
    original: bytes,
    spec: ModelSpec,
    training: Sequence[Sample],
    backend: str,
    say: Callable[[str], None],
) -> tuple[bytes, float]:
    """`content` with its score's logit moved so that the operating point of training pictures is the original's, and by
    how much; as it is, and 0, where those that can be scored are of one kind.

    INT8 moves all scores a little to one side, which the threshold of the original does not know.
    Raises BackendError, QuantizeError, StorageError.
    """
    every = -(-len(training) // MOST_LOOKED_AT)
    looked_at = training[:: max(1, every)]
    say(f"scoring {len(looked_at)} training pictures to find those near the threshold")
    old = score_graph(original, spec, backend, looked_at)
    near = set(telling(old, MOST_TELLING))
    new = score_graph(content, spec, backend, [sample for sample in looked_at if sample.name in near])
    pairs = list(zip([one for one in old if one.name in near], new, strict=True))
    both = [(a, b) for a, b in pairs if a.score is not None and b.score is not None]
    if len({a.positive for a, _ in both}) < 2:
        return content, 0.0
    before, after = _point([a for a, _ in both]), _point([b for _, b in both])
    return _with_bias(content, before - after), before - after


def _point(scored: Sequence[ScoredSample]) -> float:
    logits = np.array([logit(one.score or 0.0) for one in scored])
    return operating_point(np.array([one.positive for one in scored]), logits)


def _with_bias(content: bytes, offset: float) -> bytes:
    """The graph with so much more on the bias of its fully connected layer. Raises QuantizeError where it has none."""
    model = onnx.load_from_string(content)
    gemms = [node for node in model.graph.node if node.op_type == "Gemm"]
    for one in model.graph.initializer:
        if len(gemms) == 1 and one.name in gemms[0].input[2:]:
            values = numpy_helper.to_array(one)
            one.CopyFrom(numpy_helper.from_array((values + offset).astype(values.dtype), one.name))
            return bytes(model.SerializeToString())
    raise QuantizeError("the graph has no fully connected layer with a bias. Give a bundle that segdec export wrote.")
