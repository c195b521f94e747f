"""One picture of a camera into a file. Knows no station."""

from __future__ import annotations

import time
from pathlib import Path

import cv2

from segdec_edge.cameras import open_camera
from segdec_edge.cameras.aravis import AravisCamera
from segdec_edge.config.camera import CameraConfig
from segdec_edge.errors import CameraError, CameraIdle
from segdec_edge.files import write_atomic
from segdec_edge.types import Camera, Frame


def snap(config: CameraConfig, path: Path, timeout_s: float) -> Frame:
    """Take one picture with the table's settings and write it as PNG, whole or not at all; a software trigger is sent.

    Raises CameraError where none comes within timeout_s, StorageError where it cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise CameraError(f"{path}: wanted a name that ends in .png. Change it.")
    with open_camera(config) as camera:
        if isinstance(camera, AravisCamera) and camera.is_triggered_by_software:
            camera.trigger()
        frame = _first(camera, time.monotonic() + timeout_s, timeout_s)
    done, data = cv2.imencode(".png", frame.pixels)
    if not done:
        raise CameraError(f"{path}: the picture cannot be written as PNG. Take another.")
    write_atomic(path, data.tobytes())
    return frame


def _first(camera: Camera, deadline: float, timeout_s: float) -> Frame:
    try:
        return camera.read(max(0.0, deadline - time.monotonic()))
    except CameraIdle as idle:
        raise CameraError(f"no picture within {timeout_s:g} s: {idle} Is its trigger running?") from idle
