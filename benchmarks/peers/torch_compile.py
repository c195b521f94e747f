"""The same plain network through torch.compile, its default mode: one call more for the user. Needs a C++ compiler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from plain_torch import SegDecNet, judge_with, weights_in
from serve import Judge, serve


def open_peer(wanted: Mapping[str, Any]) -> tuple[Judge, Mapping[str, str]]:
    torch.set_num_threads(wanted["threads"])
    judge = judge_with(torch.compile(SegDecNet(weights_in(wanted["model"]))), wanted)
    height, width = wanted["size_hw"]
    shape = (height, width) if wanted["channels"] == 1 else (height, width, wanted["channels"])
    judge(np.zeros(shape, np.uint8))  # compiles, so that the time of that shows as loading
    return judge, {"precision": "fp32"}


if __name__ == "__main__":
    serve(open_peer, "torch", "numpy", "opencv-python")
