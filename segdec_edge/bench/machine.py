"""The machine that a benchmark runs on, and the state it is in: read from the kernel's files, nothing is changed.

Each figure that this machine does not tell is None. root: where /proc and /sys lie.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import segdec_edge
from segdec_edge.bench.nvml import gpu_state
from segdec_edge.bench.record import Code, Conditions, Machine
from segdec_edge.bundle import utc_now
from segdec_edge.doctor import examine

PACKAGES = (
    "numpy",
    "onnx",
    "onnxruntime",
    "opencv-python",
    "openvino",
    "pycuda",
    "tensorrt",
    "tensorrt-rtx-cu13",
    "torch",
)
_SLOWED = {
    "CPU thermal throttling": "sys/devices/system/cpu/cpu*/thermal_throttle/package_throttle_count",
    "board over-current throttling": "sys/class/hwmon/hwmon*/oc*_event_cnt",
}
_BUSY = 0.3


def machine_of() -> Machine:
    found = examine()
    return Machine(
        cpu=found.cpu,
        cores=found.cores,
        features=found.features,
        memory_gib=found.memory_gib,
        gpus=found.gpus,
        board=found.board,
        jetpack=found.jetpack,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
    )


def conditions(root: Path = Path("/")) -> Conditions:
    return Conditions(
        when=utc_now(),
        load=_load(root),
        governor=_governor(root),
        clocks_mhz=_clocks_mhz(root),
        power_mode=_power_mode(root),
        temperature_c=_temperature_c(root),
        gpu=gpu_state(),
        counters=_counters(root),
    )


def code_of() -> Code:
    commit, dirty = _checkout(Path(segdec_edge.__file__).parent)
    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return Code(
        segdec_edge=segdec_edge.__version__,
        commit=commit,
        dirty=dirty,
        python=platform.python_version(),
        versions=versions,
    )


def condition_flags(before: Conditions, after: Conditions, cores: int) -> list[str]:
    """What went on in the machine that makes the figures doubtful, in words.

    Lost CPU time counts from one hundredth of the cores' time on.
    """
    allowed = 0.01 * cores * (after.when - before.when).total_seconds()
    flags = []
    if before.load is not None and before.load[0] > _BUSY * cores:
        flags.append(
            f"the machine was busy before the run began: load {before.load[0]:.1f} on {cores} cores. Ratios hold"
            " within their intervals, milliseconds are too high"
        )
    for name, count in after.counters.items():
        more = count - before.counters.get(name, 0.0)
        if more > (allowed if name.startswith("seconds") else 0):
            flags.append(f"{name}: {more:.3g} during the run")
    reason = (after.gpu or {}).get("throttled")
    if reason:
        flags.append(f"the GPU's clocks were held back: {reason}")
    if before.governor not in (None, "performance"):
        flags.append(f"the CPU governor is {before.governor}: clocks follow the load. performance keeps them up")
    return flags


def _load(root: Path) -> tuple[float, float, float] | None:
    words = _text(root / "proc/loadavg").split()
    return (float(words[0]), float(words[1]), float(words[2])) if len(words) >= 3 else None


def _governor(root: Path) -> str | None:
    found = {_text(path) for path in root.glob("sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")} - {""}
    return " and ".join(sorted(found)) or None


def _clocks_mhz(root: Path) -> tuple[float, float, float] | None:
    kilohertz = _numbers(root.glob("sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq"))
    clocks = [one / 1000 for one in kilohertz]
    if not clocks:
        clocks = [float(one) for one in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", _text(root / "proc/cpuinfo"), re.M)]
    return (min(clocks), sum(clocks) / len(clocks), max(clocks)) if clocks else None


def _power_mode(root: Path) -> str | None:
    """A Jetson's, as nvpmodel left it; elsewhere the firmware's platform profile."""
    status = _text(root / "var/lib/nvpmodel/status")
    names = dict(re.findall(r"< POWER_MODEL ID=(\d+) NAME=(\S+) >", _text(root / "etc/nvpmodel.conf")))
    found = re.search(r"pmode:0*(\d+)", status)
    if found:
        return f"nvpmodel {found[1]} {names.get(found[1], '')}".strip()
    return _text(root / "sys/firmware/acpi/platform_profile") or None


def _temperature_c(root: Path) -> float | None:
    """The hottest zone; a zone that is switched off reads below zero or not at all."""
    found = [one / 1000 for one in _numbers(root.glob("sys/class/thermal/thermal_zone*/temp")) if one > 0]
    return max(found, default=None)


def _counters(root: Path) -> Mapping[str, float]:
    found = {}
    for name, pattern in _SLOWED.items():
        counts = _numbers(root.glob(pattern))
        if counts:
            found[name] = sum(counts)
    limited = re.search(r"^throttled_usec (\d+)", _text(root / "sys/fs/cgroup/cpu.stat"), re.MULTILINE)
    if limited:
        found["seconds held back by the container's CPU limit"] = int(limited[1]) / 1e6
    stolen = re.search(r"^cpu(?:\s+\d+){7}\s+(\d+)", _text(root / "proc/stat"), re.MULTILINE)
    if stolen:
        found["seconds of CPU taken by other machines on this host"] = int(stolen[1]) / os.sysconf("SC_CLK_TCK")
    return found


def _checkout(package: Path) -> tuple[str | None, bool | None]:
    """Commit and whether tracked files were changed; (None, None) where the package is no part of a checkout."""
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None, None
    return _git(package, "rev-parse", "HEAD"), bool(_git(package, "status", "--porcelain", "--untracked-files=no"))


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _numbers(paths: Iterator[Path]) -> list[float]:
    texts = [_text(path) for path in sorted(paths)]
    return [float(text) for text in texts if re.fullmatch(r"-?\d+(\.\d+)?", text)]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""
