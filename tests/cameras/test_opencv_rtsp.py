"""RTSP against a real server whose pictures carry the time they were made: no stale one may come out."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from segdec_edge.cameras import OpenCamera, open_camera
from segdec_edge.cameras.draining import DrainingCamera
from segdec_edge.cameras.opencv import open_rtsp
from segdec_edge.config.camera import RtspConfig
from segdec_edge.errors import CameraError, CameraLost
from tests.live_sources import ClockServer, age_ms, need_rtsp_server, stamp_ms

MAX_AGE_S = 0.25
# What the age cannot see (one frame in the H.264 parser, the encoder) and a test machine's own hiccups.
LIMIT_MS = MAX_AGE_S * 1e3 + 150.0
WAYS = [("h264", "tcp"), ("mjpeg", "tcp"), ("mjpeg", "udp")]


@pytest.fixture(scope="module", autouse=True)
def _server_can_run() -> None:
    need_rtsp_server()


@pytest.fixture(params=WAYS, ids="-".join)
def way(request: pytest.FixtureRequest) -> tuple[str, str]:
    chosen: tuple[str, str] = request.param
    return chosen


@pytest.fixture
def server(way: tuple[str, str]) -> Iterator[ClockServer]:
    with ClockServer("--codec", way[0], "--transport", way[1]) as running:
        yield running


def table(url: str, transport: str = "tcp", **settings: float) -> RtspConfig:
    return RtspConfig.model_validate(
        {"kind": "rtsp", "url": url, "transport": transport, "max_age_s": MAX_AGE_S, "open_timeout_s": 20.0, **settings}
    )


def ages(camera: DrainingCamera, seconds: float) -> list[float]:
    """The true age of every frame that comes within so many seconds; silence is passed over."""
    found, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            found.append(age_ms(camera.read(0.2).pixels))
        except CameraLost as lost:
            assert "no fresh frame" in str(lost)
    return found


def read_to_the_end(camera: OpenCamera) -> None:
    """Read until the camera says that its stream is over; a busy machine may be silent before."""
    until = time.monotonic() + 30.0
    while time.monotonic() < until:
        try:
            camera.read(2.0)
        except CameraLost as lost:
            if "ended or fell silent" in str(lost):
                return
    pytest.fail("the end of the stream was not told")


@pytest.mark.slow
def test_no_stale_frame_after_the_reader_stalled_or_the_server_froze(server: ClockServer, way: tuple[str, str]) -> None:
    with open_camera(table(server.url, way[1])) as camera:
        assert isinstance(camera, DrainingCamera)
        seen = [age_ms(camera.read(20.0).pixels)]
        time.sleep(2.0)
        seen.append(age_ms(camera.read(1.0).pixels))
        server.freeze(1.0)
        after = ages(camera, 3.5)
        drops = camera.counters.reasons
    assert max(seen + after) < LIMIT_MS
    assert len(after) >= 10  # it came back by itself
    assert drops["superseded"] >= 20
    assert drops["missing"] >= 5


@pytest.mark.slow
def test_stream_that_stays_silent_is_a_lost_camera_and_can_be_opened_again() -> None:
    with ClockServer() as server:
        with open_camera(table(server.url, read_timeout_s=0.5)) as camera:
            first = camera.read(20.0)
            server.freeze(3.0)  # six times what it waits: on a busy machine it may see the silence late
            read_to_the_end(camera)
        with open_camera(table(server.url)) as camera:
            again = camera.read(20.0)
    made = [stamp_ms(frame.pixels) for frame in (first, again)]
    assert (made[1] or 0) > (made[0] or 0) + 500
    assert again.sequence == 0


@pytest.mark.slow
def test_server_that_dies_is_a_lost_camera() -> None:
    with ClockServer("--codec", "mjpeg") as server:
        camera = open_camera(table(server.url))
        camera.read(20.0)
    with camera:
        read_to_the_end(camera)
    with pytest.raises(CameraLost, match="no stream within"):
        open_camera(table(server.url, open_timeout_s=1.0))


def test_inter_coded_pictures_over_udp_are_refused() -> None:
    with ClockServer("--codec", "h264") as server, pytest.raises(CameraError, match="h264 over UDP"):
        open_camera(table(server.url, "udp"))


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_transport_is_the_one_asked_for_or_none(transport: str) -> None:
    other = {"tcp": "udp", "udp": "tcp"}[transport]
    refused = pytest.raises(CameraLost, match=f"no stream .* over {transport}")
    with ClockServer("--codec", "mjpeg", "--transport", other) as server, refused:
        open_camera(table(server.url, transport, open_timeout_s=5.0))


def test_login_is_used_and_never_told(capfd: pytest.CaptureFixture[str]) -> None:
    with ClockServer("--codec", "mjpeg", "--user", "bob", "--password", "s3cret") as server:
        url = server.url.replace("//", "//bob:s3cret@")
        config = table(url)
        with open_camera(config) as camera:
            frame = camera.read(20.0)
        with pytest.raises(CameraLost) as caught:
            open_camera(table(url.replace("s3cret", "s3cret2")))
    told = f"{config!r} {frame.source} {caught.value} {capfd.readouterr()}"
    assert frame.source == f"rtsp://127.0.0.1:{server.port}#0"
    assert "s3cret" not in told
    assert "bob" not in told


def test_transport_set_for_all_streams_from_outside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;udp_multicast")
    with pytest.raises(CameraError, match="Unset it"):
        open_rtsp(table("rtsp://127.0.0.1:9/x"))
