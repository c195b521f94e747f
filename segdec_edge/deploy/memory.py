"""Whether a build will find the memory it needs. Small boards otherwise end it without a word."""

from __future__ import annotations

import re
from pathlib import Path

from segdec_edge.data.memory import available_bytes
from segdec_edge.errors import EngineError
from segdec_edge.runtime.gpu import Gpu

_GIB = 1 << 30
_BASE = _GIB // 2
"""TensorRT-RTX 1.7, built without a GPU: 0.52 GiB at most for a model of 63 MB, all of Python included."""
_CUDA = _GIB // 2
_COPIES = 4
"""Of the weights: the file, the parser's, the builder's and the plan."""
_MEMINFO = Path("/proc/meminfo")


def needed_bytes(model_bytes: int, workspace_bytes: int, gpu: Gpu | None) -> int:
    """An estimate of a build's host memory; where the GPU has no memory of its own, the workspace is part of it."""
    shared = workspace_bytes if gpu is not None and gpu.integrated else 0
    return _BASE + (_CUDA if gpu is not None else 0) + _COPIES * model_bytes + shared


def check_memory(needed: int, free: int | None = None, swap: int | None = None) -> str:
    """A warning where the build will have to swap, else "". free, swap: bytes, None for what this machine says.

    Raises EngineError where even with swap there is too little.
    """
    free = available_bytes() if free is None else free
    swap = free_swap() if swap is None else swap
    if needed <= free:
        return ""
    figures = f"{_gib(free)} of memory and {_gib(swap)} of swap are free, the build needs about {_gib(needed)}"
    if needed <= free + swap:
        return f"{figures}: it will swap and take long. Close other programs, or lower --workspace."
    raise EngineError(
        f"{figures}. Lower --workspace, close other programs, or add swap:"
        " sudo fallocate -l 8G /swap && sudo chmod 600 /swap && sudo mkswap /swap && sudo swapon /swap"
    )


def free_swap(meminfo: Path = _MEMINFO) -> int:
    """Bytes, 0 where the system does not say."""
    try:
        found = re.search(r"^SwapFree:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _gib(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"
