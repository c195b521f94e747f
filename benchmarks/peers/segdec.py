"""Ours, as a station uses it: a bundle, prepare, the contrast check, one backend, decide."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from serve import Judge, Picture, serve

from segdec_edge.decision import Rule, decide
from segdec_edge.pictures import prepare, refuse_flat
from segdec_edge.runtime import open_backend


def open_peer(wanted: Mapping[str, Any]) -> tuple[Judge, Mapping[str, str]]:
    backend = open_backend(wanted["model"], wanted["options"]["backend"], wanted["threads"])
    spec, rule = backend.spec, Rule(wanted["threshold"])

    def judge(picture: Picture) -> tuple[float, float]:
        pixels = refuse_flat(prepare(picture, spec.size_hw, spec.channels), "picture")[None]
        start = time.perf_counter_ns()
        prediction = backend.infer(pixels)
        infer_ms = (time.perf_counter_ns() - start) / 1e6
        decision = decide(prediction, rule)
        if decision.score is None:
            raise ValueError(decision.reason)
        return decision.score, infer_ms

    return judge, {"precision": spec.precision}


if __name__ == "__main__":
    serve(open_peer, "openvino", "onnxruntime", "numpy")
