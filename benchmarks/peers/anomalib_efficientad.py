"""anomalib's EfficientAD (small), exported to OpenVINO by anomalib and run by its OpenVINOInferencer, for speed alone.

Its teacher is a network distilled from ImageNet features, which no package registry has: the weights stay random here,
so its scores say nothing. Speed does not depend on them.

    python anomalib_efficientad.py 704x256 FOLDER    # exports
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cpu_torchvision  # noqa: F401
import cv2
import torch
from anomalib.deploy import OpenVINOInferencer
from anomalib.models import EfficientAd
from serve import Judge, Picture, serve

MODEL = "weights/openvino/model.xml"


def export(size: str, folder: Path) -> None:
    height, width = (int(word) for word in size.split("x"))
    torch.manual_seed(0)
    pre_processor = EfficientAd.configure_pre_processor(image_size=(height, width))
    model = EfficientAd(pre_processor=pre_processor, evaluator=False, visualizer=False).eval()
    # What training would measure; untouched they divide by zero.
    model.model.mean_std["std"].data.fill_(1.0)
    for name, value in {"qa_st": 0.0, "qb_st": 1.0, "qa_ae": 0.0, "qb_ae": 1.0}.items():
        model.model.quantiles[name].data.fill_(value)
    model.to_openvino(folder, input_size=(height, width))


def open_peer(wanted: Mapping[str, Any]) -> tuple[Judge, Mapping[str, str]]:
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": wanted["threads"]}
    inferencer = OpenVINOInferencer(Path(wanted["model"]), "CPU", config)
    height, width = wanted["size_hw"]

    def judge(picture: Picture) -> tuple[float, float]:
        colour = picture if picture.ndim == 3 else cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
        scaled = cv2.resize(colour, (width, height))
        start = time.perf_counter_ns()
        told = inferencer.predict(scaled)
        infer_ms = (time.perf_counter_ns() - start) / 1e6
        return float(told.pred_score.reshape(-1)[0]), infer_ms

    precision = inferencer.model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return judge, {"precision": {"f32": "fp32"}.get(precision, precision)}


if __name__ == "__main__":
    if len(sys.argv) == 3:
        export(sys.argv[1], Path(sys.argv[2]))
    else:
        serve(open_peer, "anomalib", "openvino", "torch", "torchvision", "numpy")
