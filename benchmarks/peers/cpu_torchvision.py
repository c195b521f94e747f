"""Import before torchvision: PyPI's wheels are linked against CUDA's torch, and beside the CPU build its operators do
not load ("operator torchvision::nms does not exist"). Declared here, nothing of it computed: what only transforms
pictures works then, what calls one of them fails.
"""

from __future__ import annotations

from torch.library import Library

declared = Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
