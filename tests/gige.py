"""Simulated GigE Vision cameras for tests: Aravis' own, and gige_server.py with pictures of its own.

Import: `from tests.gige import GigeCamera, gige_table`. Skips, with the package's name, where it cannot run. One at a
time on a machine: they all serve the same port, so a lock makes others wait.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from segdec_edge.config.camera import AravisConfig

SERIAL = "SEGDEC01"
_PROGRAM = "arv-fake-gv-camera-0.8"
_SCRIPT = Path(__file__).with_name("gige_server.py")
_LOCK = Path(tempfile.gettempdir()) / "segdec_gige_port_3956.lock"


def gige_table(**changes: Any) -> AravisConfig:
    """[camera] for the simulated device: 128x96 pixels, short time limits."""
    settings = {"kind": "aravis", "device": SERIAL, "region_xywh": (0, 0, 128, 96), "frame_timeout_s": 1.0}
    return AravisConfig(**{**settings, **changes})


class GigeCamera:
    """A simulated device as a process: lost_per_thousand packets are lost (Aravis' own), or own pictures where own."""

    def __init__(self, *options: str, own: bool = False, lost_per_thousand: int = 0) -> None:
        if own:
            self._command = [sys.executable, str(_SCRIPT), SERIAL, *options]
        else:
            self._command = [_PROGRAM, "-i", "127.0.0.1", "-s", SERIAL, "-r", str(lost_per_thousand)]
        self._own = own
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> GigeCamera:
        _skip_without_packages()
        self._lock = _LOCK.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._lock.close()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if self._own:
            assert self._process.stdout.readline() == "ready\n"
        else:
            _wait_for_port(3956)

    def kill(self) -> None:
        """At once, as if its cable were cut."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def _skip_without_packages() -> None:
    try:
        ctypes.CDLL("libaravis-0.8.so.0")
    except OSError:
        pytest.skip("needs the Debian package libaravis-0.8-0")
    if shutil.which(_PROGRAM) is None:
        pytest.skip("needs the Debian package aravis-tools")


def _wait_for_port(port: int, within_s: float = 5.0) -> None:
    """Until some process is bound to this UDP port."""
    deadline = time.monotonic() + within_s
    while f":{port:04X} " not in Path("/proc/net/udp").read_text():
        assert time.monotonic() < deadline, f"nobody serves UDP port {port} (pid {os.getpid()})"
        time.sleep(0.01)
