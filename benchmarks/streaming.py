"""Pictures a second, decoded again in every epoch against kept decoded, in one run.

Writes grey PNG files of one size (a texture with noise, so that they compress about as real ones do), reads them in
random order as training does, and prints each way of streaming beside its cached peer. With --train a training step
takes each picture, and what counts is whether the step ever waits.

    python benchmarks/streaming.py --size 256x1600 --pictures 200 -o benchmarks/results/streaming.json
    python benchmarks/streaming.py --size 256x1600 --pictures 16 --train --width 0.25
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from entry import one_line, require_rounds

from segdec_edge import __version__
from segdec_edge.config.train import train_settings
from segdec_edge.data.folder import folder_dataset
from segdec_edge.data.spec import parse_size
from segdec_edge.data.stream import Examples, Memory
from segdec_edge.doctor import examine
from segdec_edge.files import require_place, write_atomic
from segdec_edge.model.segdecnet import SegDecNet
from segdec_edge.training.feeding import target_rule
from segdec_edge.training.loop import Trainer
from segdec_edge.training.setup import choose_hardware

Epoch = Callable[[Examples, int], int]
"""Reads examples once; gives how many."""


def write_pictures(root: Path, count: int, size_hw: tuple[int, int], suffix: str) -> None:
    """Half of them with a mask of one rectangle."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for index in range(count):
        coarse = rng.normal(120, 30, (size_hw[0] // 16, size_hw[1] // 16)).astype(np.float32)
        texture = cv2.resize(coarse, size_hw[::-1], interpolation=cv2.INTER_CUBIC) + rng.normal(0, 4, size_hw)
        cv2.imwrite(str(root / "images" / f"{index:05d}.{suffix}"), texture.clip(0, 255).astype(np.uint8))
        if index % 2:
            mask = np.zeros(size_hw, np.uint8)
            mask[40:90, 100:260] = 255
            cv2.imwrite(str(root / "masks" / f"{index:05d}.png"), mask)


def read_epoch(examples: Examples, epoch: int) -> int:
    order = np.random.default_rng(epoch).permutation(len(examples))
    return sum(1 for _ in examples.read(order))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="256x1600")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--suffix", default="png", choices=["png", "jpg"])
    parser.add_argument("--epochs", type=int, default=5, help="timed epochs of each")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--train", action="store_true", help="with a training step a picture")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    require_rounds(arguments.epochs, 1, "epochs")
    require_rounds(arguments.pictures, 1, "pictures")
    if arguments.output:
        require_place(arguments.output)
    settings = train_settings(
        {
            "data": "folder:made", "preset": "severstal", "size_hw": list(parse_size(arguments.size)), "batch": 1,
            "width": arguments.width,
        }
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder) / "made", arguments.pictures, settings.size_hw, arguments.suffix)
        samples = folder_dataset("folder:made", Path(folder) / "made").samples
        ways = {"cached": Examples(samples, target_rule(settings), Memory(1 << 40), 2)}
        # Room for every target, but for few pictures: as good as nothing stays from one epoch to the next.
        limit = arguments.pictures * 4096 + 8 * settings.size_hw[0] * settings.size_hw[1]
        for workers in arguments.workers:
            ways[f"{workers} workers"] = Examples(samples, target_rule(settings), Memory(limit), workers)
        ways["no targets"] = Examples(samples, target_rule(settings), Memory(0), max(arguments.workers))
        net = SegDecNet(width=arguments.width)

        def epoch_of(examples: Examples) -> Epoch:
            if not arguments.train:
                return read_epoch
            hardware = choose_hardware(settings)
            placed = net.to(hardware.device, memory_format=hardware.memory_format)  # type: ignore[call-overload]
            trainer = Trainer(placed, examples, settings, hardware)
            done: list[int] = []

            def train_epoch(_: Examples, epoch: int) -> int:
                trainer.run_epoch(epoch % settings.epochs, lambda *step: done.append(step[1]))
                return done[-1]

            return train_epoch

        epochs = {name: epoch_of(examples) for name, examples in ways.items()}
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(arguments.epochs + 1):  # the first turn fills the cache
            for name, examples in ways.items():
                started = time.perf_counter()
                count = epochs[name](examples, turn)
                if turn:
                    rates[name].append(count / (time.perf_counter() - started))
        kept = {name: examples.kept for name, examples in ways.items()}
        for examples in ways.values():
            examples.__exit__(None, None, None)
    what = f"{arguments.size} {arguments.suffix}" + (
        f", training at width {arguments.width:g}" if arguments.train else ""
    )
    ratios = {}
    for name, values in rates.items():
        ratios[name] = statistics.median(value / cached for value, cached in zip(values, rates["cached"], strict=True))
        print(
            f"{what}: {name:<10} {statistics.median(values):9.1f} images/s, {ratios[name]:.3f} of cached"
            f" ({kept[name]} of {arguments.pictures} kept)"
        )
    if arguments.output:
        record = {
            "benchmark": "streaming", "size": arguments.size, "suffix": arguments.suffix, "train": arguments.train,
            "width": arguments.width, "pictures": arguments.pictures, "images_per_s": rates, "kept": kept,
            "ratio_over_cached": ratios, "cpu": examine().cpu, "segdec-edge": __version__,
            "torch": torch.__version__, "threads": torch.get_num_threads(), "opencv": cv2.__version__,
            "python": platform.python_version(),
        }  # fmt: skip
        write_atomic(arguments.output, json.dumps(record, indent=1, default=str) + "\n")


if __name__ == "__main__":
    one_line(main)
