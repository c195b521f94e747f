"""The driver's half of the protocol (serve.py): one peer in a process of its own, in its own environment."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.peers.install import HERE, ROOT, python_of

_QUIET_S, _GLANCE_S = 0.5, 0.0005


class PeerError(Exception):
    """A peer ended or does not start; the last thing that it said."""


class Child:
    """A running peer. Leaving it ends its process."""

    def __init__(self, script: str, venv: str, folder: Path) -> None:
        """folder: its working directory, where some leave caches. Raises PeerError where it is not installed."""
        python = python_of(venv)
        if not python.exists():
            raise PeerError(f"not installed. Install it: python benchmarks/peers/install.py {venv}")
        self._said = (folder / f"{script}-{time.monotonic_ns()}.log").open("w+b")
        self._process = subprocess.Popen(
            [python, HERE / f"{script}.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            cwd=folder,
            text=True,
            env=environment(os.environ, folder),
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, what: str, **values: Any) -> dict[str, Any]:
        """Raises PeerError where the process ended."""
        self.tell(what, **values)
        return self.hear()

    def tell(self, what: str, **values: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": what, **values}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerError(self._last_words()) from None

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._process.communicate()
        self._said.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _last_words(self) -> str:
        self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return f"ended with {self._process.returncode}: {lines[-1] if lines else 'it said nothing'}"


def environment(outer: Mapping[str, str], folder: Path) -> dict[str, str]:
    """What a peer's process sees: this checkout's package, no other path, no thread setting of the caller.

    Each is told its number of threads, and what its runtime does while it waits is left as it comes.
    """
    settings = ("OMP_", "KMP_", "GOMP_", "MKL_NUM", "OPENBLAS_NUM", "PYTHONPATH")
    kept = {name: value for name, value in outer.items() if not name.startswith(settings)}
    return {**kept, "PYTHONPATH": str(ROOT), "YOLO_CONFIG_DIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def settle(pids: Sequence[int], limit_s: float = _QUIET_S) -> float:
    """Wait until no thread of these processes runs; how long that took, in seconds, at most limit_s.

    A runtime's workers go on spinning for a while after a call, in wait for the next one (OpenMP's active waiting): the
    next peer would be timed beside them.
    """
    start, still = time.monotonic(), 0
    while still < 2 and time.monotonic() - start < limit_s:
        still = 0 if any(_runs(pid) for pid in pids) else still + 1
        time.sleep(_GLANCE_S)
    return time.monotonic() - start


def _runs(pid: int) -> bool:
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            state = path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread ended
        if state == "R":
            return True
    return False
