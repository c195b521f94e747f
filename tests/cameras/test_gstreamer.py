"""Real pipelines through the system's bindings; skipped, with the packages' names, where they are absent."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from segdec_edge.cameras import open_camera
from segdec_edge.cameras.gstreamer import GstreamerCamera, bindings
from segdec_edge.config.camera import GstreamerConfig
from segdec_edge.errors import CameraError, CameraLost, EndOfStream
from segdec_edge.types import Camera
from tests.live_sources import need_gstreamer

GREY = "video/x-raw,format=GRAY8,width=101,height=50,framerate=50/1"


@pytest.fixture(scope="module")
def gi_here(tmp_path_factory: pytest.TempPathFactory) -> None:
    need_gstreamer(tmp_path_factory)


def table(pipeline: str, max_age_s: float = 0.25, open_timeout_s: float = 5.0) -> GstreamerConfig:
    return GstreamerConfig.model_validate(
        {
            "kind": "gstreamer",
            "name": "top",
            "pipeline": pipeline,
            "max_age_s": max_age_s,
            "open_timeout_s": open_timeout_s,
        }
    )


def opened(pipeline: str, max_age_s: float = 0.25) -> GstreamerCamera:
    camera = open_camera(table(pipeline, max_age_s))
    assert isinstance(camera, GstreamerCamera)
    return camera


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "parts.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (40, 24))
    for number in range(6):
        writer.write(np.full((24, 40, 3), 30 * number, np.uint8))
    writer.release()
    return path


@pytest.mark.usefixtures("gi_here")
def test_file_gives_every_frame_once_and_in_order(video: Path) -> None:
    with opened(f"filesrc location={video} ! avidemux ! jpegdec") as camera:
        assert isinstance(camera, Camera)
        frames = [camera.read(5.0) for _ in range(6)]
        for _ in range(2):
            with pytest.raises(EndOfStream, match="all 6 frames"):
                camera.read(1.0)
    assert [frame.sequence for frame in frames] == list(range(6))
    assert [round(float(frame.pixels.mean()) / 30) for frame in frames] == list(range(6))
    assert len({frame.source for frame in frames}) == 6
    assert all(frame.pixels.shape == (24, 40, 3) and frame.pixels.dtype == np.uint8 for frame in frames)


@pytest.mark.usefixtures("gi_here")
@pytest.mark.parametrize(("form", "shape"), [("GRAY8", (50, 101)), ("I420", (50, 101, 3)), ("BGRx", (50, 101, 3))])
def test_pictures_are_grey_or_bgr_whatever_the_source_gives(form: str, shape: tuple[int, ...]) -> None:
    """101 wide: rows are padded to 104 or 304 bytes in memory, not in the picture."""
    source = f"videotestsrc num-buffers=1 pattern=blue ! video/x-raw,format={form},width=101,height=50"
    with opened(source) as camera:
        pixels = camera.read(5.0).pixels
    assert pixels.shape == shape
    assert pixels.reshape(-1, pixels.shape[-1] if pixels.ndim == 3 else 1).std(axis=0).max() < 1  # no slanted rows
    if pixels.ndim == 3:
        assert pixels[0, 0].argmax() == 0


@pytest.mark.usefixtures("gi_here")
def test_stalled_reader_gets_a_fresh_frame_of_a_live_source() -> None:
    with opened(f"videotestsrc is-live=true ! {GREY}") as camera:
        before = [camera.read(5.0) for _ in range(12)]
        time.sleep(1.0)
        asked_ns = time.monotonic_ns()
        after = [camera.read(1.0) for _ in range(3)]
        skipped = camera.counters.reasons["skipped"]
    assert [frame.sequence for frame in before + after] == list(range(15))
    times = [frame.captured_monotonic_ns for frame in before + after]
    assert times == sorted(times)
    assert asked_ns - after[0].captured_monotonic_ns < 0.25e9
    stamps = [frame.device_ns or 0 for frame in before + after]
    assert sorted(set(stamps)) == stamps
    assert skipped >= 25


@pytest.mark.usefixtures("gi_here")
def test_frames_that_a_queue_let_age_are_not_given() -> None:
    """The source's frames wait 0.6 s in a queue before the sink sees them."""
    late = f"videotestsrc is-live=true ! {GREY} ! queue min-threshold-time=600000000 max-size-time=2000000000"
    with opened(late) as camera, pytest.raises(CameraLost, match=r"the youngest was [567]\d\d ms old"):
        camera.read(1.5)
    with opened(late, max_age_s=1.5) as camera:
        frame = camera.read(3.0)
    assert (time.monotonic_ns() - frame.captured_monotonic_ns) > 0.5e9


@pytest.mark.usefixtures("gi_here")
def test_end_of_a_live_source_is_a_lost_camera() -> None:
    camera = opened(f"videotestsrc is-live=true num-buffers=5 ! {GREY}")
    with camera, pytest.raises(CameraLost, match="the live source ended"):
        for _ in range(6):
            camera.read(5.0)


@pytest.mark.usefixtures("gi_here")
def test_live_source_that_falls_silent_is_a_lost_camera() -> None:
    with opened(f"videotestsrc is-live=true ! {GREY} ! valve name=v") as camera:
        camera.read(5.0)
        camera._pipeline.get_by_name("v").set_property("drop", True)
        with pytest.raises(CameraLost, match="no fresh frame within"):
            for _ in range(3):
                camera.read(0.3)
        camera._pipeline.get_by_name("v").set_property("drop", False)
        assert camera.read(2.0).sequence >= 1


@pytest.mark.usefixtures("gi_here")
def test_damaged_frames_are_not_given() -> None:
    with opened(f"videotestsrc is-live=true ! {GREY} ! identity name=mark") as camera:
        gst, _ = bindings()
        pad = camera._pipeline.get_by_name("mark").get_static_pad("src")
        camera.read(5.0)

        def damage(_pad: object, info: object) -> object:
            info.get_buffer().set_flags(gst.BufferFlags.CORRUPTED)  # type: ignore[attr-defined]
            return gst.PadProbeReturn.OK

        probe = pad.add_probe(gst.PadProbeType.BUFFER, damage)
        with pytest.raises(CameraLost):
            for _ in range(3):
                camera.read(0.3)
        assert camera.counters.reasons["damaged"] >= 5
        pad.remove_probe(probe)
        camera.read(2.0)


@pytest.mark.usefixtures("gi_here")
@pytest.mark.parametrize(
    ("pipeline", "kind", "told"),
    [
        ("videotestrc", CameraError, 'no element "videotestrc"'),
        ("videotestsrc ! (", CameraError, "not a pipeline"),
        ("", CameraError, "not a pipeline"),
        ("videotestsrc ! video/x-raw,format=NONE ! identity", CameraError, "can't handle caps"),
        ("videotestsrc is-live=true ! valve drop=true", CameraLost, "no frame within 1 s of the start"),
        ("filesrc location=/nowhere/parts.avi ! decodebin", CameraLost, "Resource not found"),
        ("rtspsrc location=rtsp://bob:s3cret@127.0.0.1:9/x ! decodebin", CameraError, "buffer-mode=none"),
        ("rtspsrc location=rtsp://bob:s3cret@127.0.0.1:9/x buffer-mode=none ! decodebin", CameraLost, "failed"),
        ("rtspsrc user-pw=s3cret locatio=rtsp://bob:s3cret@127.0.0.1:9/x ! decodebin", CameraError, "not a pipeline"),
    ],
)
def test_pipeline_that_cannot_run_is_told_in_one_line(pipeline: str, kind: type[CameraError], told: str) -> None:
    with pytest.raises(CameraError, match=told) as caught:
        open_camera(table(pipeline, open_timeout_s=1.0))
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.usefixtures("gi_here")
def test_read_after_close_is_an_error_and_close_may_repeat() -> None:
    with opened(f"videotestsrc is-live=true ! {GREY}") as camera:
        pass
    camera.close()
    with pytest.raises(CameraError, match="closed"):
        camera.read(1.0)


def test_missing_bindings_are_told_with_the_way_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gi", None)
    with pytest.raises(CameraError, match=r"apt-get install python3-gi .*ln -s") as caught:
        open_camera(table("videotestsrc"))
    assert "\n" not in str(caught.value)
