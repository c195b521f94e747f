"""Training on a terminal: a bar with losses, speed and time left; plain lines where there is none."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from segdec_edge.training.records import EpochRecord


class TerminalObserver:
    """An Observer as a context manager. epochs: how many the whole run has."""

    def __init__(self, epochs: int, console: Console | None = None) -> None:
        self._epochs = epochs
        self._console = console or Console(soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"), TimeRemainingColumn(),
            console=self._console, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._task: TaskID | None = None
        self._started: float | None = None
        self._first_epoch = 0

    def __enter__(self) -> TerminalObserver:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def preparing(self, done: int, total: int) -> None:
        if self._task is None:
            self._task = self._progress.add_task("preparing", total=total, figures="")
        self._progress.update(self._task, completed=done, total=total)

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        if self._started is None:
            self._started, self._first_epoch = time.perf_counter(), epoch
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task("training", total=self._epochs * total, figures="")
        elapsed = time.perf_counter() - self._started
        seen = (epoch - self._first_epoch) * total + done
        assert self._task is not None
        self._progress.update(
            self._task,
            completed=(epoch - 1) * total + done,
            description=f"epoch {epoch}/{self._epochs}",
            figures=f"loss {loss:.4f}  {seen / elapsed:.1f} images/s",
        )

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        elapsed = time.perf_counter() - (self._started or time.perf_counter())
        left = elapsed / (record.epoch - self._first_epoch + 1) * (epochs - record.epoch)
        ap = "" if record.validation_ap is None else f"  validation AP {record.validation_ap:.4f}"
        self.note(
            f"epoch {record.epoch}/{epochs}  loss {record.total:.4f} (segmentation {record.segmentation:.4f},"
            f" decision {record.decision:.4f}){ap}  {record.images_per_s:.2f} images/s  {_duration(left)} left"
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
