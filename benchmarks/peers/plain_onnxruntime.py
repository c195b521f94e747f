"""onnxruntime on the plain exported network: float32, NCHW, resize, /255 and sigmoid outside, its own defaults."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import onnxruntime
from serve import Judge, Picture, serve


def open_peer(wanted: Mapping[str, Any]) -> tuple[Judge, Mapping[str, str]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = wanted["threads"]
    session = onnxruntime.InferenceSession(wanted["model"], options, providers=["CPUExecutionProvider"])
    height, width = wanted["size_hw"]

    def judge(picture: Picture) -> tuple[float, float]:
        scaled = cv2.resize(picture, (width, height)).astype(np.float32) / 255
        x = np.ascontiguousarray(scaled.reshape(height, width, -1).transpose(2, 0, 1)[None])
        start = time.perf_counter_ns()
        decision, segmentation = session.run(["decision", "segmentation"], {"picture": x})
        score = 1 / (1 + math.exp(-float(decision[0, 0])))
        1 / (1 + np.exp(-segmentation))
        return score, (time.perf_counter_ns() - start) / 1e6

    return judge, {"precision": "fp32"}


if __name__ == "__main__":
    serve(open_peer, "onnxruntime", "numpy", "opencv-python")
