"""What a training tells of itself: a record an epoch, and who hears of it. Trains nothing and draws no bar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from segdec_edge.errors import TrainingError


@dataclass(frozen=True)
class EpochRecord:
    """One line of the log; epoch counts from 1, validation_ap None without validation pictures, seconds those of the
    steps, None in logs of earlier versions."""

    epoch: int
    segmentation: float
    decision: float
    total: float
    images_per_s: float
    validation_ap: float | None
    seconds: float | None = None


class Observer(Protocol):
    """Told what happens; a progress bar, a log or nothing."""

    def note(self, text: str) -> None: ...

    def preparing(self, done: int, total: int) -> None: ...

    def step(self, epoch: int, done: int, total: int, loss: float) -> None: ...

    def epoch(self, record: EpochRecord, epochs: int) -> None: ...


class Silent:
    """An Observer that tells nobody: of several processes only the first speaks."""

    def note(self, text: str) -> None: ...

    def preparing(self, done: int, total: int) -> None: ...

    def step(self, epoch: int, done: int, total: int, loss: float) -> None: ...

    def epoch(self, record: EpochRecord, epochs: int) -> None: ...


def history_in(progress: Mapping[str, Any]) -> tuple[EpochRecord, ...]:
    """The records that a checkpoint's progress holds."""
    return tuple(EpochRecord(**record) for record in progress["history"])


class TensorBoard:
    """What tensorboard shows of a training that has `done` epochs behind it; records after them are forgotten there.

    Raises TrainingError where it is not installed.
    """

    def __init__(self, folder: Path, done: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TrainingError(
                "tensorboard is not installed: pip install 'segdec-edge[train]', or use --no-tensorboard"
            ) from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=done + 1)

    def add(self, record: EpochRecord) -> None:
        for name, value in asdict(record).items():
            if name != "epoch" and value is not None:
                self._writer.add_scalar(name, value, record.epoch)

    def close(self) -> None:
        self._writer.close()
