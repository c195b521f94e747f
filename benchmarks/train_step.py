"""Seconds a training step, ours against the plain loop, in turns in one run, and the arithmetic's floor beside them.

The peer is the method written down plainly: autograd through FeatureNorm's formula, nn.Conv2d, one picture a step, in
float32 and NCHW, as its authors run it; and the same with our bf16 autocast and channels_last. All take the same
made-up pictures. The floor: the convolutions' operations, forward and both gradients, at the speed of the fastest of a
few large matrix products, measured in the same run. Each has a process of its own, for how malloc is set is one
process's; --before adds an earlier checkout of this project.

    python benchmarks/train_step.py --size 704x256 --steps 12 -o benchmarks/results/train_step.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from entry import one_line, require_rounds
from torch import Tensor, nn
from torch.nn import functional
from turns import Contender, serve

from segdec_edge import __version__
from segdec_edge.bench.child import peak_mib
from segdec_edge.bench.machine import code_of
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


class Plain:
    """The plain loop. precision: "fp32" in NCHW, or "bf16" in channels_last."""

    def __init__(self, width: float, rate: float, precision: str) -> None:
        self.format = torch.channels_last if precision == "bf16" else torch.contiguous_format
        self.low = precision == "bf16"
        self.net = plain_network(width).to(memory_format=self.format)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=rate)

    def step(self, example: Example) -> None:
        x = torch.from_numpy(example.pixels).permute(2, 0, 1)[None].float() / 255
        mask, weights = torch.from_numpy(example.mask)[None, None], torch.from_numpy(example.weights)[None, None]
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.low):
            decision, segmentation = self.net(x.contiguous(memory_format=self.format))
        pixelwise = functional.binary_cross_entropy_with_logits(segmentation.float(), mask, reduction="none")
        classified = functional.binary_cross_entropy_with_logits(decision.float().flatten(), mask.max()[None])
        loss = 0.5 * (pixelwise * weights).mean() + 0.005 * classified
        loss.backward()
        self.optimizer.step()
        loss.item()


def operations(width: float, size_hw: tuple[int, int]) -> int:
    """Multiply-adds × 2 of a step's convolutions: forward, gradient by weights, gradient by inputs where one is needed.

    Not needed: for the picture itself, and into the trunk from the decision part, where the gradient stops.
    """
    net, total = SegDecNet(width=width), 0
    ends = {id(net.volume[0][0]), id(net.extractor[1][0])}

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d)
        once = 2 * output.numel() * layer.weight[0].numel()
        total += once * (2 if id(layer) in ends else 3)

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.no_grad():
        net(torch.zeros(1, 1, *size_hw))
    return total


def peak_flops(seconds: float = 1.0) -> float:
    """bf16 operations a second of the fastest of some large matrix products."""
    best = 0.0
    for side in (1024, 2048, 4096):
        a, b = torch.randn(side, side).bfloat16(), torch.randn(side, side).bfloat16()
        a @ b
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            started = time.perf_counter()
            a @ b
            best = max(best, 2 * side**3 / (time.perf_counter() - started))
    return best


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


def stepper(name: str, size_hw: tuple[int, int], width: float) -> Callable[[], object]:
    """Two steps, on a defective and a good picture. name: "ours", or of the plain loop "plain fp32" or "plain bf16"."""
    pictures = examples(size_hw)
    settings = train_settings(
        {
            "data": "synthetic:", "preset": "kolektor", "size_hw": list(size_hw), "width": width,
            "precision": "bf16", "device": "cpu",
        }
    )  # fmt: skip
    torch.manual_seed(0)
    if name != "ours":
        peer = Plain(width, settings.rate, name.split()[1])
        return lambda: [peer.step(picture) for picture in pictures]
    if find_spec("segdec_edge.training.allocation"):  # an earlier checkout has none
        from segdec_edge.training.allocation import keep_freed_memory

        keep_freed_memory()
    net = SegDecNet(width=width).to(memory_format=torch.channels_last)
    trainer = Trainer(net, pictures, settings, choose_hardware(settings))
    return lambda: trainer.run_epoch(17, lambda *_: None)


def timed_turn(work: Callable[[], object]) -> dict[str, float]:
    started, before = time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": (time.perf_counter() - started) / 2,
        "processor_s": (time.process_time() - before) / 2,
        "peak_mib": peak_mib(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="704x256")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=12, help="timed steps of each")
    parser.add_argument("--before", type=Path, help="another checkout of this project, in the same turns")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    require_rounds(arguments.steps, 2, "steps", "turns")
    size_hw = parse_size(arguments.size)
    from segdec_edge.files import require_place  # not at the top: an earlier checkout has none

    if arguments.output:
        require_place(arguments.output)
    names = {"ours": None, "plain fp32": None, "plain bf16": None}
    checkouts = names | ({"before": arguments.before.resolve()} if arguments.before else {})
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    with ExitStack() as opened:
        contenders = {
            name: opened.enter_context(
                Contender(
                    Path(__file__),
                    ["ours" if name == "before" else name, arguments.size, str(arguments.width)],
                    checkout,
                )
            )
            for name, checkout in checkouts.items()
        }
        for turn in range(arguments.steps // 2 + 1):  # the first turn warms up
            for name, contender in contenders.items():
                found = contender.turn()
                if turn:
                    turns[name].append(found)
    report(arguments, turns, operations(arguments.width, size_hw), peak_flops())


def report(arguments: argparse.Namespace, turns: dict[str, list[dict[str, float]]], work: int, peak: float) -> None:
    samples = {name: [one["seconds"] for one in found] for name, found in turns.items()}
    processor = {name: statistics.median(one["processor_s"] for one in found) for name, found in turns.items()}
    medians = {name: statistics.median(values) for name, values in samples.items()}
    print(f"{arguments.size}, width {arguments.width:g}, {torch.get_num_threads()} threads")
    ratios = {}
    for name, values in samples.items():
        paired = sorted(peer / ours for peer, ours in zip(values, samples["ours"], strict=True))
        ratios[name] = {"median": statistics.median(paired), "lowest": paired[0], "highest": paired[-1]}
        print(
            f"  {name:12} {medians[name]:.3f} s a step, {1 / medians[name]:.2f} images/s,"
            f" {ratios[name]['median']:.2f} of ours ({paired[0]:.2f} to {paired[-1]:.2f}),"
            f" {processor[name]:.3f} s of processor time, {turns[name][-1]['peak_mib']:.0f} MiB"
        )
    print(
        f"  floor        {work / peak:.3f} s a step: {work / 1e9:.0f} GFLOP at {peak / 1e12:.2f} TFLOP/s in bf16;"
        f" ours reaches {work / peak / medians['ours']:.0%} of it"
    )
    if arguments.output:
        record = {
            "benchmark": "train_step", "size": arguments.size, "width": arguments.width, "precision": "bf16",
            "seconds_per_step": samples, "median": medians, "ratio_to_ours": ratios, "turns": turns,
            "processor_s_per_step": processor, "load": os.getloadavg(), "code": code_of().model_dump(),
            "gflop_per_step": work / 1e9, "peak_tflops_bf16": peak / 1e12, "floor_seconds": work / peak,
            "threads": torch.get_num_threads(), "cpu": examine().cpu, "segdec-edge": __version__,
            "torch": torch.__version__, "python": platform.python_version(),
        }  # fmt: skip
        from segdec_edge.files import write_atomic

        write_atomic(arguments.output, json.dumps(record, indent=1, default=str) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        stepping = stepper(sys.argv[2], parse_size(sys.argv[3]), float(sys.argv[4]))
        serve(lambda: timed_turn(stepping))
    else:
        one_line(main)
