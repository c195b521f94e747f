"""The plain network on an NVIDIA GPU: as its authors run it (options: form "plain"), or in FP16 and channels_last by
torch.compile's "max-autotune", which replays a captured CUDA graph (form "fast"). Copies to and from the GPU count.
Never run so far: no GPU was at hand.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from plain_torch import SegDecNet, prepared, weights_in
from serve import Judge, Picture, serve


def open_peer(wanted: Mapping[str, Any]) -> tuple[Judge, Mapping[str, str]]:
    if not torch.cuda.is_available():
        raise RuntimeError("torch sees no CUDA GPU in this machine")
    torch.set_num_threads(wanted["threads"])
    # Without it PyTorch multiplies FP32 matrices, but not convolutions, in full FP32.
    torch.backends.cudnn.allow_tf32 = False
    fast = wanted["options"]["form"] == "fast"
    net: Any = SegDecNet(weights_in(wanted["model"])).to("cuda")
    dtype, layout = (torch.float16, torch.channels_last) if fast else (torch.float32, torch.contiguous_format)
    if fast:
        net = torch.compile(net.to(dtype=dtype, memory_format=layout), mode="max-autotune")
    size_hw, channels = tuple(wanted["size_hw"]), wanted["channels"]

    def judge(picture: Picture) -> tuple[float, float]:
        x = prepared(picture, size_hw, channels)
        start = time.perf_counter_ns()
        with torch.no_grad():
            decision, segmentation = net(x.to("cuda", dtype, memory_format=layout))
            score = torch.sigmoid(decision.float()).item()
            torch.sigmoid(segmentation).float().cpu().numpy()
        return score, (time.perf_counter_ns() - start) / 1e6

    shape = size_hw if channels == 1 else (*size_hw, channels)
    for _ in range(3):  # compiles, warms up, captures: so that the time of that shows as loading
        judge(np.zeros(shape, np.uint8))
    told = {"precision": "fp16" if fast else "fp32", "device": torch.cuda.get_device_name()}
    return judge, told


if __name__ == "__main__":
    serve(open_peer, "torch", "numpy", "opencv-python")
