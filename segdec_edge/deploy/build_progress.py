"""A build on a terminal: a bar a phase, as TensorRT tells them. Knows no TensorRT."""

from __future__ import annotations

import threading
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class TerminalMonitor:
    """What a build reports to, as a context manager; called from any of TensorRT's threads.

    cancelled: set by whoever wants the build to stop; step() hands it on.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=console, disable=not console.is_terminal, transient=True,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._depths: dict[str, int] = {}
        self._lock = threading.Lock()
        self.cancelled = False

    def __enter__(self) -> TerminalMonitor:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        with self._lock:
            depth = self._depths.get(parent or "", -1) + 1
            self._depths[phase] = depth
            self._remove(phase)
            self._tasks[phase] = self._progress.add_task("  " * depth + phase, total=steps)

    def step(self, phase: str, done: int) -> bool:
        """Whether the build shall go on. done: steps of this phase so far."""
        with self._lock:
            if phase in self._tasks:
                self._progress.update(self._tasks[phase], completed=done)
        return not self.cancelled

    def finish(self, phase: str) -> None:
        with self._lock:
            self._remove(phase)

    def _remove(self, phase: str) -> None:
        task = self._tasks.pop(phase, None)
        if task is not None:
            self._progress.remove_task(task)
