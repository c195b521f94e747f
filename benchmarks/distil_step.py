"""Seconds a step of distillation, ours against the same network on torch's own convolutions, in turns in one run.

The network is a compressed bundle, one picture a step, bf16 autocast and channels last in both: what differs is the
weight gradient of wide kernels with few outputs. Forward, a loss on both outputs, backward; no optimiser.

    python benchmarks/distil_step.py compressed.bundle -o benchmarks/results/distil_step.json
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from entry import one_line, require_rounds
from torch import Tensor, nn
from torch.nn import functional

from segdec_edge import __version__
from segdec_edge.bundle import read_bundle
from segdec_edge.deploy.graph_read import read_network
from segdec_edge.deploy.network import Conv, Network, operations
from segdec_edge.deploy.torch_network import TorchNetwork, planes_of
from segdec_edge.doctor import examine
from segdec_edge.files import require_place, write_atomic
from segdec_edge.timing import COLD, Sitting, Times, quantile, ratio_interval, sit_down, stage_of

OURS, PEER = "ours", "torch's own convolutions"
SITTINGS = 4


class TorchConv(nn.Module):
    def __init__(self, conv: Conv) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(conv.weight))
        self.bias = None if conv.bias is None else nn.Parameter(torch.tensor(conv.bias))

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=4, help="in each of the sittings")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("-o", "--out", type=Path, required=True)
    asked = parser.parse_args()
    require_rounds(asked.rounds * SITTINGS, SITTINGS)
    require_place(asked.out)
    torch.set_num_threads(asked.threads)
    bundle = read_bundle(asked.bundle)
    network, size_hw = read_network(bundle.model_path.read_bytes()), bundle.spec.size_hw
    pixels = np.random.default_rng(0).integers(0, 256, (1, *size_hw, network.channels), np.uint8)
    sittings = [sitting(network, pixels, asked.rounds, seed) for seed in range(SITTINGS)]
    ours, peer = (stage_of(sittings, name, "step") for name in (OURS, PEER))
    ratio = ratio_interval(peer, ours)
    found = {
        "what": "milliseconds of forward, loss and backward, one picture",
        "network": bundle.meta.lineage[-1].note,
        "size_hw": size_hw,
        "gflop_forward": sum(operations(network, size_hw).values()) / 1e9,
        "threads": asked.threads,
        "median_ms": {OURS: quantile(ours, 0.5), PEER: quantile(peer, 0.5)},
        "times_faster": asdict(ratio),
        "samples_ms": {OURS: ours.tolist(), PEER: peer.tolist()},
        "cpu": examine().cpu,
        "cores": examine().cores,
        "versions": {"segdec-edge": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    write_atomic(asked.out, json.dumps(found, indent=1) + "\n")
    print(f"{OURS} {quantile(ours, 0.5):.0f} ms, {PEER} {quantile(peer, 0.5):.0f} ms: {ratio}")


def sitting(network: Network, pixels: np.ndarray, rounds: int, seed: int) -> Sitting[str]:
    turns = {OURS: turn(TorchNetwork(network), pixels), PEER: turn(with_torchs_own(network), pixels)}
    return sit_down(turns, rounds, np.random.default_rng(seed), visit=COLD, warm_up=1)


def with_torchs_own(network: Network) -> TorchNetwork:
    made = TorchNetwork(network)
    for part, layers in ((made.trunk, network.trunk), (made.segmentation, network.segmentation)):
        for index, layer in enumerate(layers):
            if isinstance(layer, Conv):
                part[index] = TorchConv(layer)
    return made


def turn(net: TorchNetwork, pixels: np.ndarray) -> Callable[[int], Times]:
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = planes_of(pixels)

    def step(_: int) -> Times:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            decision, segmentation = net(x)
        (decision.float().square().sum() + segmentation.float().square().mean()).backward()
        taken = time.perf_counter() - start
        net.zero_grad(set_to_none=True)
        return {"step": 1000 * taken}

    return step


if __name__ == "__main__":
    one_line(main)
