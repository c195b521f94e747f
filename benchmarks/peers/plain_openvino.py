"""OpenVINO on the plain exported network: NCHW, resize, /255 and sigmoid outside.

With its defaults it computes in bfloat16 on a CPU that can; "options" may hold another INFERENCE_PRECISION_HINT.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import openvino
from serve import Judge, Picture, serve


def open_peer(wanted: Mapping[str, Any]) -> tuple[Judge, Mapping[str, str]]:
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": wanted["threads"], **wanted["options"]}
    compiled = openvino.Core().compile_model(wanted["model"], "CPU", options)
    height, width = wanted["size_hw"]

    def judge(picture: Picture) -> tuple[float, float]:
        scaled = cv2.resize(picture, (width, height)).astype(np.float32) / 255
        x = np.ascontiguousarray(scaled.reshape(height, width, -1).transpose(2, 0, 1)[None])
        start = time.perf_counter_ns()
        told = compiled(x)
        score = 1 / (1 + math.exp(-float(told["decision"][0, 0])))
        1 / (1 + np.exp(-told["segmentation"]))
        return score, (time.perf_counter_ns() - start) / 1e6

    return judge, {"precision": _precision(compiled)}


def _precision(compiled: openvino.CompiledModel) -> str:
    """What it really computes in, as it says."""
    name = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return {"f32": "fp32", "f16": "fp16"}.get(name, name)


if __name__ == "__main__":
    serve(open_peer, "openvino", "numpy", "opencv-python")
