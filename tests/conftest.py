"""Fixtures that several rooms share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

from segdec_edge.runtime.tensorrt_api import TensorRt, find_tensorrt

# The same examples on every run, and none too slow: other work shares the machine.
settings.register_profile("segdec", deadline=None, derandomize=True, database=None)
settings.load_profile("segdec")


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """Networks and pictures that a test draws are the same on every run and in any order of tests."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def _data_folder() -> Path:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("SEGDEC_DATA", beside))


def _real(name: str) -> Path:
    root = _data_folder() / name
    if not root.is_dir():
        pytest.skip(f"no {name} at {root}; set SEGDEC_DATA to the folder that holds it")
    return root


@pytest.fixture(scope="session")
def kolektor_root() -> Path:
    """The real KolektorSDD pictures, or a skip that says where they were looked for."""
    return _real("KolektorSDD")


@pytest.fixture(scope="session")
def magnetic_root() -> Path:
    """The real MagneticTile pictures, or a skip that says where they were looked for."""
    return _real("MagneticTile")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 1 MiB, or a skip where this user may not mount one."""
    place = tmp_path / "small disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a small disk here ({error})")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def hangup_ends() -> Iterator[None]:
    """As in a terminal; where the tests themselves run under nohup, what they start would ignore it too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def ctrl_c_ends() -> Iterator[None]:
    """As in a terminal; where the tests themselves run in a script's background, what they start would ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def rtx() -> TensorRt:
    """The real TensorRT-RTX, which builds without a GPU, or a skip that says how to install it."""
    if find_spec("tensorrt_rtx") is None:
        pytest.skip("no tensorrt_rtx: pip install tensorrt-rtx-cu13")
    return find_tensorrt("tensorrt_rtx")
