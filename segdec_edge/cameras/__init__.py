"""open_camera(): a [camera] table becomes a source of frames. One file a source, loaded only when asked for."""

from __future__ import annotations

from typing import Protocol

from segdec_edge.config.camera import (
    AravisConfig,
    CameraConfig,
    GstreamerConfig,
    ReplayConfig,
    RtspConfig,
    V4l2Config,
)
from segdec_edge.types import Camera


class OpenCamera(Camera, Protocol):
    """A camera that also tells how many triggers there will be; None where it does not end."""

    @property
    def total(self) -> int | None: ...

    def __enter__(self) -> OpenCamera: ...


def open_camera(config: CameraConfig) -> OpenCamera:
    """Open the source that the table names. Raises CameraError where it is missing, empty or ignores a setting."""
    match config:
        case ReplayConfig():
            from segdec_edge.cameras.replay import ReplayCamera

            return ReplayCamera(config.path, config.rate_hz, config.loop, config.pattern)
        case AravisConfig():
            from segdec_edge.cameras.aravis import AravisCamera

            return AravisCamera(config)
        case V4l2Config():
            from segdec_edge.cameras.opencv import open_v4l2

            return open_v4l2(config)
        case RtspConfig():
            from segdec_edge.cameras.opencv import open_rtsp

            return open_rtsp(config)
        case GstreamerConfig():
            from segdec_edge.cameras.gstreamer import GstreamerCamera

            return GstreamerCamera(config)
