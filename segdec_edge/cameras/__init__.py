"""open_camera(): a [camera] table becomes a source of frames. One file a source."""

from __future__ import annotations

from segdec_edge.cameras.draining import DrainingCamera
from segdec_edge.cameras.gstreamer import GstreamerCamera
from segdec_edge.cameras.opencv import open_rtsp, open_v4l2
from segdec_edge.cameras.replay import ReplayCamera
from segdec_edge.config.camera import CameraConfig, GstreamerConfig, ReplayConfig, RtspConfig, V4l2Config


def open_camera(config: CameraConfig) -> ReplayCamera | DrainingCamera | GstreamerCamera:
    """Open the source that the table names. Raises CameraError where it is missing or empty."""
    match config:
        case ReplayConfig():
            return ReplayCamera(config.path, config.rate_hz, config.loop, config.pattern)
        case V4l2Config():
            return open_v4l2(config)
        case RtspConfig():
            return open_rtsp(config)
        case GstreamerConfig():
            return GstreamerCamera(config)
