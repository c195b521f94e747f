"""What this machine can do and what is missing. Imports neither torch nor TensorRT, so that it stays quick."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from segdec_edge import __version__
from segdec_edge.runtime import available_backends

BASE = ("numpy", "onnxruntime", "opencv-python-headless", "pydantic", "rich", "simplejpeg", "typer")
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "train": ("matplotlib", "onnx", "onnxsim", "scikit-learn", "scipy", "tensorboard", "torch"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt-rtx-cu13",),
    "cuda": ("pycuda",),
    "cuda-graphs": ("cuda-bindings",),
    "parquet": ("pyarrow",),
}
"""What each extra of pyproject.toml adds (a test compares)."""
FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI (int8)",
    "avx_vnni": "AVX-VNNI (int8)",
    "avx512_bf16": "AVX-512 bf16",
    "amx_int8": "AMX int8",
    "amx_bf16": "AMX bf16",
    "asimd": "NEON",
    "asimdhp": "NEON fp16",
    "asimddp": "NEON dot product (int8)",
    "i8mm": "int8 matrix",
    "bf16": "bf16",
    "sve": "SVE",
}
"""CPU flags as Linux names them, x86-64 and ARM, that decide how fast a network runs."""
JETPACKS = {"35": "JetPack 5 (its Python 3.8 is too old for segdec-edge)", "36": "JetPack 6", "38": "JetPack 7"}
"""By major release of the board's Linux (L4T)."""
_SMI = ("--query-gpu=name,memory.total,driver_version,compute_cap", "--format=csv,noheader")
_NO_NVIDIA = "no NVIDIA GPU here"


@dataclass(frozen=True)
class Report:
    """memory in GiB, None where the system does not say. backends, extras: name → version or what is missing."""

    system: str
    cpu: str
    cores: int
    features: tuple[str, ...]
    memory_gib: float | None
    free_gib: float | None
    gpus: tuple[str, ...]
    board: str | None
    jetpack: str | None
    tensorrt: Mapping[str, str]
    backends: Mapping[str, str]
    packages: Mapping[str, str]
    extras: Mapping[str, str]


def examine(root: Path = Path("/")) -> Report:
    """Look at this machine. root: where /proc, /dev and /etc lie."""
    cpuinfo = _read(root / "proc/cpuinfo")
    gpus = _gpus(root)
    jetpack = _jetpack(root)
    total, free = _memory_gib(root)
    return Report(
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()} in {sys.prefix}",
        cpu=_field(cpuinfo, "model name") or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        features=_features(cpuinfo),
        memory_gib=total,
        free_gib=free,
        gpus=gpus,
        board=_read(root / "proc/device-tree/model").strip("\0\n ") or None,
        jetpack=jetpack,
        tensorrt=_tensorrt(),
        backends=available_backends(),
        packages={name: found for name in BASE if (found := _version(name))},
        extras={name: _extra(name, bool(gpus), jetpack is not None) for name in EXTRAS},
    )


def render(report: Report) -> str:
    """The report as aligned lines of text."""
    memory = "unknown" if report.memory_gib is None else f"{report.memory_gib:.1f} GiB"
    if report.free_gib is not None:
        memory += f", {report.free_gib:.1f} free"
    lines = [
        ("segdec-edge", __version__),
        ("system", report.system),
        ("CPU", f"{report.cpu}, {report.cores} cores to use"),
        ("", ", ".join(report.features) or "none of the flags that matter"),
        ("memory", memory),
        *_titled("GPU", report.gpus or (_NO_NVIDIA,)),
    ]
    if report.board:
        lines.append(("board", report.board))
    if report.jetpack:
        lines.append(("JetPack", report.jetpack))
    lines += _titled("TensorRT", _pairs(report.tensorrt) or ("no module",))
    lines += _titled("backends", _pairs(report.backends))
    lines += _titled("packages", _pairs(report.packages))
    lines += _titled("extras", _pairs(report.extras))
    return "\n".join(f"{title:<12} {text}".rstrip() for title, text in lines)


def _titled(title: str, texts: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(title if index == 0 else "", text) for index, text in enumerate(texts)]


def _pairs(values: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{name:<14} {value}" for name, value in values.items())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _field(text: str, name: str) -> str | None:
    found = re.search(rf"^{re.escape(name)}\s*:\s*(.+)$", text, re.MULTILINE | re.IGNORECASE)
    return found[1].strip() if found else None


def _features(cpuinfo: str) -> tuple[str, ...]:
    flags = set((_field(cpuinfo, "flags") or _field(cpuinfo, "features") or "").split())
    return tuple(name for flag, name in FEATURES.items() if flag in flags)


def _memory_gib(root: Path) -> tuple[float | None, float | None]:
    text = _read(root / "proc/meminfo")
    total, free = (re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE) for key in ("MemTotal", "MemAvailable"))
    return (int(total[1]) / 2**20 if total else None, int(free[1]) / 2**20 if free else None)


def _gpus(root: Path) -> tuple[str, ...]:
    """One line a GPU from nvidia-smi, else the device files that are there."""
    command = shutil.which("nvidia-smi")
    if command is not None:
        try:
            done = subprocess.run([command, *_SMI], capture_output=True, text=True, errors="replace", timeout=10)
        except (OSError, subprocess.TimeoutExpired) as error:
            return (f"nvidia-smi does not answer ({type(error).__name__}): is the driver loaded?",)
        lines = tuple(line.strip() for line in done.stdout.splitlines() if line.strip())
        if done.returncode == 0 and lines:
            return lines
    devices = sorted([*root.glob("dev/nvidia[0-9]*"), *root.glob("dev/nvhost-gpu")])
    return tuple(f"{device} (nvidia-smi tells no more)" for device in devices)


def _jetpack(root: Path) -> str | None:
    release = _read(root / "etc/nv_tegra_release")
    found = re.search(r"# R(\d+) \(release\), REVISION: ([\d.]+)", release)
    if found is None:
        return release.splitlines()[0] if release.strip() else None
    return f"{JETPACKS.get(found[1], 'unknown JetPack')}, L4T {found[1]}.{found[2]}"


def _tensorrt() -> dict[str, str]:
    names = {"tensorrt": ("tensorrt",), "tensorrt_rtx": ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx")}
    found = {}
    for module, packages in names.items():
        if find_spec(module) is not None:
            found[module] = next((v for package in packages if (v := _version(package))), "version unknown")
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _extra(name: str, gpu: bool, jetson: bool) -> str:
    versions = {package: _version(package) for package in EXTRAS[name]}
    missing = [package for package, found in versions.items() if found is None]
    if not missing:
        return "there: " + ", ".join(f"{package} {found}" for package, found in versions.items())
    if name in ("tensorrt", "cuda", "cuda-graphs") and not gpu:
        return f"missing, of no use: {_NO_NVIDIA}"
    if name == "tensorrt" and jetson:
        return "missing: JetPack brings it, make the venv with python3 -m venv --system-site-packages"
    if name == "tensorrt-rtx" and platform.machine() != "x86_64":
        return "missing, of no use: for x86-64 only"
    use = " (builds engines for other machines' GPUs)" if name == "tensorrt-rtx" and not gpu else ""
    return f"missing {', '.join(missing)}{use}. Add it: pip install 'segdec-edge[{name}]'"
