"""Seconds a training step, ours against the plain loop, alternating in one run.

The peer is the method written down plainly: autograd through FeatureNorm's formula, nn.Conv2d, one picture a step, the
same bf16 autocast and channels_last. Both take the same made-up picture.

    python benchmarks/train_step.py --size 704x256 --steps 12 -o benchmarks/results/train_step.json
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from segdec_edge import __version__
from segdec_edge.config.train import train_settings
from segdec_edge.data.spec import parse_size
from segdec_edge.data.targets import Example
from segdec_edge.doctor import examine
from segdec_edge.model.convolution import SameConv2d
from segdec_edge.model.norm import FeatureNorm
from segdec_edge.model.segdecnet import SegDecNet
from segdec_edge.training.loop import Trainer
from segdec_edge.training.setup import choose_hardware


class PlainNorm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3), keepdim=True)
        deviation = x.float().std(dim=(2, 3), keepdim=True)
        return self.scale * (x - mean) / torch.sqrt(deviation + 0.001) + self.bias


def plain_network(width: float) -> nn.Module:
    """SegDecNet with every layer of ours replaced by the plain one."""
    net = SegDecNet(width=width)
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, FeatureNorm):
                setattr(parent, name, PlainNorm(child.scale.shape[1]))
            elif isinstance(child, SameConv2d):
                plain = nn.Conv2d(
                    child.in_channels, child.out_channels, child.kernel_size, padding=child.padding, bias=False
                )
                setattr(parent, name, plain)
            elif isinstance(child, nn.ReLU):
                setattr(parent, name, nn.ReLU())
    return net


def plain_step(net: nn.Module, optimizer: torch.optim.Optimizer, example: Example) -> None:
    x = torch.from_numpy(example.pixels).permute(2, 0, 1)[None].float() / 255
    mask, weights = torch.from_numpy(example.mask)[None, None], torch.from_numpy(example.weights)[None, None]
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        decision, segmentation = net(x.contiguous(memory_format=torch.channels_last))
    pixelwise = functional.binary_cross_entropy_with_logits(segmentation.float(), mask, reduction="none")
    classified = functional.binary_cross_entropy_with_logits(decision.float().flatten(), mask.max()[None])
    loss = 0.5 * (pixelwise * weights).mean() + 0.005 * classified
    loss.backward()
    optimizer.step()
    loss.item()


def examples(size_hw: tuple[int, int]) -> list[Example]:
    """A defective and a good picture of noise; what is timed does not depend on the pixels."""
    rng = np.random.default_rng(0)
    eighth = (size_hw[0] // 8, size_hw[1] // 8)
    made = []
    for positive in (True, False):
        mask = np.zeros(eighth, np.float32)
        mask[4:9, 4:9] = float(positive)
        pixels = rng.integers(0, 255, (*size_hw, 1), dtype=np.uint8)
        made.append(Example(f"noise{positive}", pixels, mask, np.ones(eighth, np.float32), positive, True))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="704x256")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=12, help="timed steps of each")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    size_hw = parse_size(arguments.size)
    pictures = examples(size_hw)

    settings = train_settings(
        {
            "data": "synthetic:", "preset": "kolektor", "size_hw": list(size_hw), "width": arguments.width,
            "precision": "bf16", "device": "cpu",
        }
    )  # fmt: skip
    torch.manual_seed(0)
    ours = SegDecNet(width=arguments.width).to(memory_format=torch.channels_last)
    trainer = Trainer(ours, pictures, settings, choose_hardware(settings))
    plain = plain_network(arguments.width).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(plain.parameters(), lr=settings.rate)

    samples: dict[str, list[float]] = {"ours": [], "plain": []}
    for turn in range(arguments.steps // 2 + 1):  # the first turn warms up
        started = time.perf_counter()
        trainer.run_epoch(17, lambda *_: None)  # one positive and one negative: two steps
        middle = time.perf_counter()
        for picture in pictures:
            plain_step(plain, optimizer, picture)
        finished = time.perf_counter()
        if turn:
            samples["ours"].append((middle - started) / 2)
            samples["plain"].append((finished - middle) / 2)
    medians = {name: statistics.median(values) for name, values in samples.items()}
    ratios = [plain / ours for plain, ours in zip(samples["plain"], samples["ours"], strict=True)]
    print(
        f"{arguments.size}, width {arguments.width:g}: ours {medians['ours']:.3f} s a step,"
        f" plain {medians['plain']:.3f} s, ratio {statistics.median(ratios):.2f}"
        f" ({min(ratios):.2f} to {max(ratios):.2f})"
    )
    if arguments.output:
        record = {
            "benchmark": "train_step", "size": arguments.size, "width": arguments.width, "precision": "bf16",
            "seconds_per_step": samples, "median": medians, "ratio_plain_over_ours": statistics.median(ratios),
            "threads": torch.get_num_threads(), "cpu": examine().cpu, "segdec-edge": __version__,
            "torch": torch.__version__, "python": platform.python_version(),
        }  # fmt: skip
        arguments.output.write_text(json.dumps(record, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
