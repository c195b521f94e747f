"""[camera] tables of video sources as users write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from segdec_edge.config.camera import GstreamerConfig, RtspConfig, V4l2Config
from segdec_edge.config.station import StationConfig, load_station
from segdec_edge.errors import ConfigError
from tests.config.station_file import written


def load(folder: Path, camera: str) -> StationConfig:
    return load_station(written(folder, f'[station]\nbundle = "parts.bundle"\n[camera]\n{camera}\n'))


def test_usb_camera(tmp_path: Path) -> None:
    config = load(
        tmp_path, 'kind = "v4l2"\ndevice = 2\nsize_hw = [720, 1280]\nfourcc = "MJPG"\nexposure_us = 2000'
    ).camera
    assert isinstance(config, V4l2Config)
    assert (config.device, config.size_hw, config.exposure_us, config.gain) == (2, (720, 1280), 2000.0, None)
    by_id = load(tmp_path, 'kind = "v4l2"\ndevice = "/dev/v4l/by-id/usb-1"').camera
    assert isinstance(by_id, V4l2Config)
    assert by_id.device == "/dev/v4l/by-id/usb-1"


def test_rtsp_camera_keeps_its_login_to_itself(tmp_path: Path) -> None:
    config = load(tmp_path, 'kind = "rtsp"\nurl = "rtsp://bob:s3cret@192.0.2.4/parts"').camera
    assert isinstance(config, RtspConfig)
    assert config.url.get_secret_value() == "rtsp://bob:s3cret@192.0.2.4/parts"
    assert config.transport == "tcp"
    assert "s3cret" not in f"{config} {config!r} {config.model_dump()} {config.model_dump_json()}"


def test_pipeline_keeps_its_login_to_itself(tmp_path: Path) -> None:
    config = load(tmp_path, 'kind = "gstreamer"\npipeline = "rtspsrc user-pw=s3cret ! decodebin"').camera
    assert isinstance(config, GstreamerConfig)
    assert "s3cret" not in f"{config} {config!r} {config.model_dump_json()}"


@pytest.mark.parametrize(
    ("camera", "told"),
    [
        ('kind = "rtsp"', "camera.url is missing"),
        ('kind = "rtsp"\nurl = "http://bob:s3cret@cam/x"', "camera.url: not an RTSP address"),
        ('kind = "rtsp"\nurl = "rtsp://"', "camera.url: not an RTSP address"),
        ('kind = "rtsp"\nurl = ""', "camera.url: not an RTSP address"),
        ('kind = "rtsp"\nurl = "rtsp://bob:s3cret@cam/x"\ntransport = "quic"', "camera.transport is 'quic'"),
        ('kind = "rtsp"\nurl = "rtsp://bob:s3cret@cam/x"\nurI = 1', "unknown setting camera.urI. Did you mean url?"),
        ('kind = "rtsp"\nurl = ["rtsp://bob:s3cret@cam/x"]', "camera.url"),
        ('kind = "v4l2"\ndevice = -1', "camera.device"),
        ('kind = "v4l2"\nfourcc = "MJPEG"', "camera.fourcc is 'MJPEG'"),
        ('kind = "v4l2"\nsize_hw = [720]', "camera.size_hw"),
        ('kind = "v4l2"\nmax_age_s = 0', "camera.max_age_s is 0"),
        ('kind = "gstreamer"', "camera.pipeline is missing"),
    ],
)
def test_mistakes_are_told_without_a_login(tmp_path: Path, camera: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, camera)
    assert told in str(caught.value)
    assert "s3cret" not in str(caught.value)
