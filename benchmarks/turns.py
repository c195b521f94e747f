"""Contenders of one benchmark in processes of their own, asked for one turn at a time; also from another checkout.

So "before and after" is the same script on two checkouts of the package, in turns in one run: git worktree add.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).resolve().parent


class Contender:
    """A context manager. Its process runs `script --serve WORDS…` and answers each line it reads with a line of JSON.

    checkout: where the package is imported from, this one by default.
    """

    def __init__(self, script: Path, words: Sequence[str], checkout: Path | None = None) -> None:
        paths = [str(checkout or HERE.parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        self._child = subprocess.Popen(
            [sys.executable, str(script), "--serve", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )

    def turn(self) -> Any:
        """The result of one turn. Raises RuntimeError where the process is gone."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write("\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            pass
        if not (line := self._child.stdout.readline()):
            raise RuntimeError(f"the contender ended with {self._child.wait()}; its own output says why")
        return json.loads(line)

    def __enter__(self) -> Contender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.communicate()


def serve(turn: Callable[[], Any]) -> None:
    """The child's side: one turn a line, until there are no more."""
    for _ in sys.stdin:
        sys.stdout.write(json.dumps(turn()) + "\n")
        sys.stdout.flush()
