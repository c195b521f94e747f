"""Cameras through OpenCV: V4L2 (USB) and RTSP, free-running, the newest frame only. Knows no verdict.

What it cannot see: a delay that never changes, and a picture of H.264 or H.265 in which packets were missing: the
decoder paints it over (52 of 174 frames at 3 % loss). So such a stream is refused over UDP, and over TCP what follows a
missing frame waits for the next that stands alone; a server that drops single packets out of a TCP stream stays unseen.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2

from segdec_edge.cameras.address import host_of
from segdec_edge.cameras.draining import Capture, DrainingCamera
from segdec_edge.config.camera import RtspConfig, V4l2Config
from segdec_edge.errors import CameraError, CameraLost

_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_MANUAL_EXPOSURE = 1  # V4L2_EXPOSURE_MANUAL; OpenCV passes the kernel's own numbers
_EXPOSURE_UNIT_US = 100  # of V4L2_CID_EXPOSURE_ABSOLUTE
_STANDS_ALONE = {"MJPG", "mjpg", "JPEG", "jpeg"}


class Settable(Capture, Protocol):
    def set(self, prop: int, value: float) -> bool: ...


class _Asked(NamedTuple):
    name: str
    prop: int
    value: float
    tolerance: float


@dataclass(frozen=True)
class VideoDevice:
    """A V4L2 device that gives pictures: /dev/videoN, its model, and the path that stays when it is replugged."""

    path: Path
    model: str
    by_id: Path | None


def list_devices(
    system: Path = Path("/sys/class/video4linux"), links: Path = Path("/dev/v4l/by-id")
) -> list[VideoDevice]:
    """V4L2 devices of this machine, in their order; without the second nodes of a camera, which carry metadata."""
    stable = {link.resolve().name: link for link in sorted(links.glob("*"))}
    nodes = sorted(system.glob("video*"), key=lambda node: (len(node.name), node.name))
    return [
        VideoDevice(Path("/dev") / node.name, _text(node / "name"), stable.get(node.name))
        for node in nodes
        if _text(node / "index") in ("", "0")
    ]


def open_v4l2(config: V4l2Config) -> DrainingCamera:
    """Open a USB camera as asked. Raises CameraLost where it is missing, CameraError where it ignored a setting."""
    device = Path(f"/dev/video{config.device}" if isinstance(config.device, int) else config.device)
    if not device.exists():
        known = ", ".join(str(one.by_id or one.path) for one in list_devices()) or "none"
        raise CameraLost(f"{device}: no such camera, here: {known}. Plug it in, or change camera.device.")
    capture = cv2.VideoCapture(str(device), cv2.CAP_V4L2)
    if not capture.isOpened():
        raise CameraLost(f"{device}: cannot be opened. Close other programs, or add this user to the group video.")
    ask(capture, str(device), config)
    return DrainingCamera(capture, str(device), max_age_s=config.max_age_s)


def ask(capture: Settable, name: str, config: V4l2Config) -> None:
    """Set what the table asks for and read it back. Releases the capture and raises CameraError on any difference."""
    asked = _asked(config)
    for one in asked:
        capture.set(one.prop, one.value)
    ignored = [
        f"{one.name} {_written(one, one.value)}, got {_written(one, got)}"
        for one in asked
        if not abs((got := capture.get(one.prop)) - one.value) <= one.tolerance
    ]
    if ignored:
        capture.release()
        raise CameraError(
            f"{name}: the device ignored what was asked: {'; '.join(ignored)}."
            f" Ask for what it offers: v4l2-ctl -d {name} --list-formats-ext --list-ctrls"
        )


def open_rtsp(config: RtspConfig) -> DrainingCamera:
    """Open an RTSP stream. Raises CameraLost where none comes, CameraError where damage in it would stay unseen."""
    url = config.url.get_secret_value()
    name = host_of(url)
    asked = {
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: round(config.open_timeout_s * 1e3),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC: round(config.read_timeout_s * 1e3),
        cv2.CAP_PROP_N_THREADS: 1,  # each further thread of the decoder delays the picture by one frame
    }
    options = [number for pair in asked.items() for number in pair]
    with _TRANSPORT.held(config.transport):
        capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, options)
    if not capture.isOpened():
        raise CameraLost(
            f"{name}: no stream within {config.open_timeout_s:g} s over {config.transport}."
            " Check address, login and network."
        )
    codec = _fourcc(capture.get(cv2.CAP_PROP_FOURCC))
    if config.transport == "udp" and codec not in _STANDS_ALONE:
        capture.release()
        raise CameraError(
            f"{name}: {codec} over UDP, where lost packets give damaged pictures that look whole."
            ' Set camera.transport to "tcp", or the camera to MJPEG.'
        )
    return DrainingCamera(capture, name, max_age_s=config.max_age_s, predicted=codec not in _STANDS_ALONE)


class _Transport:
    """The way RTSP takes, which OpenCV reads from the environment when it opens a stream, the same for all.

    Who wants the same way opens at the same time. FFmpeg's other switch, in the address, falls back to the other way.
    """

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._openings = 0

    @contextmanager
    def held(self, transport: str) -> Iterator[None]:
        wanted = f"rtsp_transport;{transport}"
        with self._free:
            self._free.wait_for(lambda: self._openings == 0 or os.environ.get(_OPTIONS) == wanted)
            if os.environ.get(_OPTIONS) != wanted:
                self._refuse_foreign(os.environ.get(_OPTIONS))
                os.environ[_OPTIONS] = wanted
            self._openings += 1
        try:
            yield
        finally:
            with self._free:
                self._openings -= 1
                self._free.notify_all()

    def _refuse_foreign(self, found: str | None) -> None:
        if found not in (None, "rtsp_transport;tcp", "rtsp_transport;udp"):
            raise CameraError(f"{_OPTIONS} is set for every stream, wanted camera.transport to decide. Unset it.")


_TRANSPORT = _Transport()


def _asked(config: V4l2Config) -> list[_Asked]:
    asked = []
    if config.fourcc is not None:  # first: sizes and rates depend on it
        asked.append(_Asked("fourcc", cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*config.fourcc), 0.0))
    if config.size_hw is not None:
        asked.append(_Asked("width", cv2.CAP_PROP_FRAME_WIDTH, config.size_hw[1], 0.0))
        asked.append(_Asked("height", cv2.CAP_PROP_FRAME_HEIGHT, config.size_hw[0], 0.0))
    if config.rate_hz is not None:
        asked.append(_Asked("rate_hz", cv2.CAP_PROP_FPS, config.rate_hz, 0.01 * config.rate_hz))
    if config.exposure_us is not None:
        asked.append(_Asked("manual exposure", cv2.CAP_PROP_AUTO_EXPOSURE, _MANUAL_EXPOSURE, 0.0))
        units = round(config.exposure_us / _EXPOSURE_UNIT_US)
        asked.append(_Asked("exposure in 100 µs", cv2.CAP_PROP_EXPOSURE, units, 0.0))
    if config.gain is not None:
        asked.append(_Asked("gain", cv2.CAP_PROP_GAIN, config.gain, 0.0))
    return asked


def _written(asked: _Asked, value: float) -> str:
    return _fourcc(value) if asked.prop == cv2.CAP_PROP_FOURCC else f"{value:g}"


def _fourcc(value: float) -> str:
    letters = "".join(chr(int(value) >> 8 * place & 0xFF) for place in range(4)) if value > 0 else ""
    return letters.strip() if letters.isprintable() and letters else "an unknown codec"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
