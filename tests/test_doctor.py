"""doctor: what it reads, what it advises, and that it stays quick."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from segdec_edge.config.load import tomllib
from segdec_edge.doctor import BASE, EXTRAS, examine, render

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
ORIN_FLAGS = "fp asimd evtstrm aes fphp asimdhp cpuid asimdrdm asimddp"


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    files = {
        "proc/cpuinfo": f"processor\t: 0\nFeatures\t: {ORIN_FLAGS}\n",
        "proc/meminfo": "MemTotal:        7863596 kB\nMemFree: 1 kB\nMemAvailable:    4194304 kB\n",
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
        "dev/nvhost-gpu": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_this_machine_is_described() -> None:
    report = examine()
    assert report.cores >= 1
    assert report.packages["onnxruntime"] == version("onnxruntime")
    assert report.backends["onnxruntime"] == version("onnxruntime")
    text = render(report)
    for wanted in ("CPU", "memory", "GPU", "TensorRT", "backends", "extras", report.cpu):
        assert wanted in text


def test_a_jetson_is_recognised(jetson: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    report = examine(jetson)
    assert report.board == "NVIDIA Jetson Orin Nano Developer Kit"
    assert report.jetpack == "JetPack 6, L4T 36.4.3"
    assert report.features == ("NEON", "NEON fp16", "NEON dot product (int8)")
    assert report.memory_gib == pytest.approx(7.499, abs=0.001)
    assert report.free_gib == 4.0
    assert len(report.gpus) == 1
    assert "JetPack 6" in render(report)


def test_nothing_to_read_is_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    report = examine(tmp_path)
    assert (report.memory_gib, report.gpus, report.board, report.jetpack) == (None, (), None, None)
    assert "no NVIDIA GPU" in render(report)


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("echo 'NVIDIA H200, 143771 MiB, 580.1, 9.0'", "NVIDIA H200, 143771 MiB, 580.1, 9.0"),
        ("echo 'Failed to initialize NVML'; exit 9", None),
    ],
)
def test_nvidia_smi_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, wanted: str | None) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert examine(tmp_path).gpus == (() if wanted is None else (wanted,))


def test_missing_extras_come_with_their_command(jetson: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segdec_edge.doctor._version", lambda package: None)
    extras = examine(jetson).extras
    assert extras["train"].endswith("Add it: pip install 'segdec-edge[train]'")
    assert extras["openvino"].endswith("Add it: pip install 'segdec-edge[openvino]'")
    assert "--system-site-packages" in extras["tensorrt"]


def test_the_lists_are_those_of_pyproject() -> None:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    optional = project["optional-dependencies"]
    assert set(EXTRAS) == set(optional) - {"dev", "line"}
    for name, packages in EXTRAS.items():
        assert set(packages) == {_package(requirement) for requirement in optional[name]}
    assert set(BASE) == {_package(requirement) for requirement in project["dependencies"]} - {"tomli"}


def test_it_loads_no_torch() -> None:
    code = "import sys; from segdec_edge.doctor import *; render(examine()); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for module in ("torch", "tensorrt", "tensorrt_rtx", "matplotlib", "scipy"):
        assert f"'{module}'" not in done.stdout


def _package(requirement: str) -> str:
    return re.split(r"[<>=;\[ ]", requirement)[0]
