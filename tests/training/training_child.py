"""Train in a process of its own, so that a test can kill it. Arguments: folder of parts, output folder, epochs."""

from __future__ import annotations

import sys
from pathlib import Path

from segdec_edge.config.train import train_settings
from segdec_edge.training.records import EpochRecord
from segdec_edge.training.run import train


class Spoken:
    def note(self, text: str) -> None:
        pass

    def preparing(self, done: int, total: int) -> None:
        pass

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        sys.stdout.write(f"step {epoch} {done}\n")
        sys.stdout.flush()

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        sys.stdout.write(f"epoch {record.epoch}\n")
        sys.stdout.flush()


def settings_for(parts: str, epochs: int):  # type: ignore[no-untyped-def]
    return train_settings(
        {
            "data": f"folder:{parts}", "size_hw": [64, 128], "width": 0.25, "epochs": epochs, "precision": "fp32",
            "device": "cpu", "tensorboard": False, "validation": 0.2, "test": 0.2,
        }
    )  # fmt: skip


if __name__ == "__main__":
    train(settings_for(sys.argv[1], int(sys.argv[3])), Path(sys.argv[2]), Spoken(), resume=True)
