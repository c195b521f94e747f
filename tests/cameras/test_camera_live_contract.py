"""What every free-running camera promises: the newest frame, each once, its time, and nothing after close."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from segdec_edge.cameras import OpenCamera, open_camera
from segdec_edge.config.camera import GstreamerConfig, RtspConfig
from segdec_edge.errors import CameraError
from segdec_edge.types import Camera
from tests.live_sources import ClockServer, need_gstreamer, need_rtsp_server

PIPELINE = "videotestsrc is-live=true ! video/x-raw,format=GRAY8,width=64,height=48,framerate=50/1"


@pytest.fixture(params=["gstreamer", "rtsp"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenCamera]:
    if request.param == "gstreamer":
        need_gstreamer(tmp_path_factory)
        with open_camera(GstreamerConfig.model_validate({"kind": "gstreamer", "pipeline": PIPELINE})) as camera:
            yield camera
        return
    need_rtsp_server()
    server = ClockServer("--fps", "50")
    with server, open_camera(RtspConfig.model_validate({"kind": "rtsp", "url": server.url})) as camera:
        yield camera


def test_contract_of_a_free_running_camera(live: OpenCamera) -> None:
    assert isinstance(live, Camera)
    assert live.total is None
    before = [live.read(5.0) for _ in range(10)]
    time.sleep(0.4)
    asked_ns = time.monotonic_ns()
    after = [live.read(2.0) for _ in range(5)]
    frames = before + after
    assert [frame.sequence for frame in frames] == list(range(15))
    assert len({frame.source for frame in frames}) == 15
    assert len({frame.device_ns for frame in frames}) == 15
    times = [frame.captured_monotonic_ns for frame in frames]
    assert times == sorted(set(times))
    assert asked_ns - after[0].captured_monotonic_ns < 0.25e9
    assert all(abs(frame.captured_ns - time.time_ns()) < 60e9 for frame in frames)
    assert all(frame.pixels.dtype == np.uint8 and frame.pixels.flags.c_contiguous for frame in frames)
    assert not any(np.shares_memory(one.pixels, other.pixels) for one in before for other in after)
    live.close()  # type: ignore[attr-defined]
    live.close()  # type: ignore[attr-defined]
    with pytest.raises(CameraError, match="closed"):
        live.read(1.0)
