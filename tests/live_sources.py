"""Real live sources for tests: an RTSP server on this host whose pictures carry the time they were made.

Import: `from tests.live_sources import ClockServer, age_ms`. Skips, with the packages' names, where it cannot run.
"""

from __future__ import annotations

import importlib.machinery
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

import pytest

from segdec_edge.cameras import gstreamer
from segdec_edge.errors import CameraError
from segdec_edge.types import Pixels

SYSTEM_PYTHON = Path("/usr/bin/python3")
SYSTEM_GI = Path("/usr/lib/python3/dist-packages/gi")
PACKAGES = (
    "python3-gi gir1.2-gst-plugins-base-1.0 gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good"
    " gstreamer1.0-plugins-ugly"
)
_SCRIPT = Path(__file__).with_name("clock_server.py")
_PROBE = """
import gi
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
assert all(Gst.ElementFactory.find(name) for name in ("x264enc", "rtph264pay", "jpegenc", "rtpjpegpay", "appsrc"))
"""


def stamp_ms(pixels: Pixels) -> int | None:
    """When a picture of the server was made, in ms of the monotonic clock; None where the picture is damaged."""
    grey = pixels if pixels.ndim == 2 else pixels[:, :, 1]
    squares = grey[:64].reshape(4, 16, 16, 16).mean(axis=(1, 3)) > 125
    bits, opposites = squares[:2].ravel(), squares[2:].ravel()
    if (bits == opposites).any():
        return None
    return sum(int(bit) << place for place, bit in enumerate(bits))


def age_ms(pixels: Pixels) -> float:
    """How old a picture of the server is now. Fails on a damaged one."""
    made = stamp_ms(pixels)
    assert made is not None, "a damaged picture was taken for a whole one"
    return time.monotonic() * 1e3 - made


class ClockServer:
    """clock_server.py as a process of its own; url is its stream."""

    def __init__(self, *options: str, port: int | None = None) -> None:
        self.port = port or _free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/parts"
        self._options = options

    def __enter__(self) -> ClockServer:
        command = [str(SYSTEM_PYTHON), str(_SCRIPT), str(self.port), *self._options]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def freeze(self, seconds: float) -> None:
        """Stop it now; it goes on after so many seconds."""
        self.process.send_signal(signal.SIGSTOP)
        threading.Timer(seconds, self.process.send_signal, (signal.SIGCONT,)).start()


def need_gstreamer(folders: pytest.TempPathFactory) -> None:
    """Make gi importable as its error message tells users to: a link to the system's, and to nothing else there.

    Skips where no binding fits this Python.
    """
    fits = any((SYSTEM_GI / f"_gi{suffix}").exists() for suffix in importlib.machinery.EXTENSION_SUFFIXES)
    if fits and "gi" not in sys.modules:
        folder = folders.mktemp("bindings")
        (folder / "gi").symlink_to(SYSTEM_GI)
        sys.path.append(str(folder))
    try:
        gstreamer.bindings()
    except CameraError:
        pytest.skip(f"no GStreamer bindings for this Python; apt-get install {gstreamer.PACKAGES}")


def need_rtsp_server() -> None:
    """Skip where this machine cannot serve RTSP."""
    if not SYSTEM_PYTHON.exists() or subprocess.run([SYSTEM_PYTHON, "-c", _PROBE], capture_output=True).returncode:
        pytest.skip(f"no RTSP server here; apt-get install {PACKAGES}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
