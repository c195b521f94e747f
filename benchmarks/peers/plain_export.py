"""The plain network as torch.onnx.export leaves it: float32, NCHW, logits out, fixed size.

    python benchmarks/peers/plain_export.py checkpoint.pt 704x256 plain.onnx

Needs torch and onnx; the driver runs it in its own environment.
"""

from __future__ import annotations

import sys
import warnings

import torch
from plain_torch import SegDecNet, weights_in


def main() -> None:
    checkpoint, size, out = sys.argv[1:]
    height, width = (int(word) for word in size.split("x"))
    weights = weights_in(checkpoint)
    example = torch.zeros(1, weights["volume.0.0.weight"].shape[1], height, width)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated; the other needs one more package
        torch.onnx.export(
            SegDecNet(weights),
            (example,),
            out,
            dynamo=False,
            input_names=["picture"],
            output_names=["decision", "segmentation"],
        )


if __name__ == "__main__":
    main()
