"""How much memory decoded pictures may take. Knows no picture."""

from __future__ import annotations

from pathlib import Path

_GIB = 1 << 30
_FALLBACK = 4 * _GIB
_UNLIMITED = 1 << 60
_MEMINFO = Path("/proc/meminfo")
# A container's limit lies below the machine's memory, and passing it ends the process without a word.
_GROUP_V2 = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"))
_GROUP_V1 = (
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def cache_limit(cache_gib: float | None, processes: int = 1) -> int:
    """Bytes that one of `processes` on this machine may hold; they share cache_gib, or half of what is free now.

    The other half stays for the network, for the file cache of the system and for whoever else runs here.
    """
    whole = available_bytes() // 2 if cache_gib is None else int(cache_gib * _GIB)
    return whole // processes


def available_bytes() -> int:
    """Memory this process can still get without swapping, in its container or on the machine; 4 GiB if none says."""
    known = [free for free in (_machine(), _group(*_GROUP_V2), _group(*_GROUP_V1)) if free is not None]
    return max(0, min(known, default=_FALLBACK))


def _machine() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _group(limit: Path, used: Path) -> int | None:
    try:
        most, now = limit.read_text().strip(), used.read_text().strip()
    except OSError:
        return None
    return int(most) - int(now) if most.isdigit() and int(most) < _UNLIMITED else None
