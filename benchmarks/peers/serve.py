"""The peer's half of the protocol: one JSON object a line on stdin, one answer a line on stdout. Standard library and
numpy alone, for it runs in every peer's own environment.

{"do": "open", …}            → {"load_ms", "versions", "told"}
{"do": "pictures", "files"}  → {"count"}; .npy files, as the camera gives them, kept in memory from then on
{"do": "judge", "index", "before"} → {"total_ms", "infer_ms" (None: not told apart), "score", "defect"}; "before":
                               untimed calls on the same picture first
{"do": "score", "file"}      → {"score"}; one .npy file, let go again: what is scored is never held together
{"do": "flat_out", "seconds"} → {"pictures_per_s"}
{"do": "memory"}             → {"peak_mib"}

The end of stdin ends the process.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Judge = Callable[[Picture], "tuple[float, float | None]"]
"""From a decoded picture (H, W) or (H, W, 3) BGR to its score and, where it can be told apart, the milliseconds of
inference alone."""
Opened = "tuple[Judge, Mapping[str, str]]"
FEWEST = 3


class _Served:
    def __init__(self, open_peer: Callable[[Mapping[str, Any]], Any], packages: tuple[str, ...]) -> None:
        self._open, self._packages = open_peer, packages
        self._pictures: list[Picture] = []
        self._judge: Judge | None = None
        self._threshold: float | None = None

    def answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        match asked["do"]:
            case "open":
                return self._opened(asked)
            case "pictures":
                self._pictures = [np.load(path) for path in asked["files"]]
                return {"count": len(self._pictures)}
            case "judge":
                return self._judged(self._picture(asked["index"]), asked.get("before", 0))
            case "score":
                return {"score": self._judged(np.load(asked["file"]), 0)["score"]}
            case "flat_out":
                return {"pictures_per_s": self._flat_out(asked["seconds"])}
            case "memory":
                return {"peak_mib": _peak_mib()}
        raise ValueError(f"asked to {asked['do']!r}")

    def _opened(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        start = time.perf_counter_ns()
        self._judge, told = self._open(asked)
        self._threshold = asked.get("threshold")
        versions = {name: version(name) for name in self._packages}
        return {"load_ms": (time.perf_counter_ns() - start) / 1e6, "versions": versions, "told": dict(told)}

    def _picture(self, index: int) -> Picture:
        return self._pictures[index % len(self._pictures)]

    def _judged(self, picture: Picture, before: int) -> dict[str, Any]:
        assert self._judge is not None
        for _ in range(before):
            self._judge(picture)
        start = time.perf_counter_ns()
        score, infer_ms = self._judge(picture)
        defect = self._threshold is not None and score >= self._threshold
        total_ms = (time.perf_counter_ns() - start) / 1e6
        return {"total_ms": total_ms, "infer_ms": infer_ms, "score": float(score), "defect": bool(defect)}

    def _flat_out(self, seconds: float) -> float:
        assert self._judge is not None
        start, done = time.perf_counter(), 0
        while done < FEWEST or time.perf_counter() - start < seconds:
            self._judge(self._picture(done))
            done += 1
        return done / (time.perf_counter() - start)


def serve(open_peer: Callable[[Mapping[str, Any]], Any], *packages: str) -> None:
    """Answer until stdin ends. open_peer: takes the values of "open", gives (judge, what else is worth telling).

    packages: whose versions are told.
    """
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    served = _Served(open_peer, packages)
    for line in sys.stdin:
        answers.write(json.dumps(served.answer(json.loads(line))) + "\n")
        answers.flush()


def _peak_mib() -> float:
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0
