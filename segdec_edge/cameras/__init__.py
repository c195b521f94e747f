"""open_camera(): a [camera] table becomes a source of frames. One file a source."""

from __future__ import annotations

from segdec_edge.cameras.replay import ReplayCamera
from segdec_edge.config.camera import CameraConfig, ReplayConfig


def open_camera(config: CameraConfig) -> ReplayCamera:
    """Open the source that the table names. Raises CameraError where it is missing or empty."""
    match config:
        case ReplayConfig():
            return ReplayCamera(config.path, config.rate_hz, config.loop, config.pattern)
