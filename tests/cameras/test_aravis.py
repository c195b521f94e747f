"""GigE Vision against simulated cameras on the network of this host: real packets, real losses, real deaths."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from segdec_edge.cameras import aravis_library
from segdec_edge.cameras.aravis import AravisCamera
from segdec_edge.cameras.aravis_features import features
from segdec_edge.cameras.aravis_library import Library
from segdec_edge.cameras.listing import list_cameras
from segdec_edge.errors import CameraError, CameraIdle, CameraLost, FrameLost
from segdec_edge.types import Frame
from tests.gige import SERIAL, GigeCamera, gige_table

pytestmark = pytest.mark.slow  # opening takes the library 1 s

WHOLE = {"region_xywh": (0, 0, 512, 512)}


def outcome(camera: AravisCamera, timeout_s: float = 3.0) -> Frame | FrameLost:
    try:
        return camera.read(timeout_s)
    except FrameLost as lost:
        return lost


def until_lost(camera: AravisCamera) -> tuple[list[Frame | FrameLost], float]:
    """What still comes, and how long until CameraLost."""
    started, seen = time.monotonic(), []
    while True:
        try:
            seen.append(outcome(camera))
        except CameraLost:
            return seen, time.monotonic() - started


def reopened(make: Callable[[], AravisCamera], within_s: float = 10.0) -> AravisCamera:
    deadline = time.monotonic() + within_s
    while True:
        try:
            return make()
        except CameraLost:
            assert time.monotonic() < deadline


def test_free_running_frames_are_whole_young_and_in_order() -> None:
    with GigeCamera(), AravisCamera(gige_table(**WHOLE, rate_hz=25.0)) as camera:
        frames = []
        until = time.monotonic() + 2.0
        while time.monotonic() < until:
            frame = camera.read(2.0)
            assert time.monotonic_ns() - frame.captured_monotonic_ns < 250e6
            frames.append(frame)
        counters = camera.counters
    assert [frame.sequence for frame in frames] == list(range(len(frames)))
    assert len(frames) > 30
    assert counters.frames == len(frames)
    assert counters.incomplete == 0
    stamps = [frame.device_ns for frame in frames if frame.device_ns is not None]
    assert len(stamps) == len(frames)
    assert stamps == sorted(set(stamps))
    assert all(frame.pixels.shape == (512, 512) for frame in frames)
    assert not np.array_equal(frames[0].pixels, frames[1].pixels)


def test_busy_reader_gets_no_old_frame() -> None:
    with GigeCamera(own=True), AravisCamera(gige_table(buffers=4)) as camera:
        before = camera.read(2.0)
        time.sleep(0.6)
        after = camera.read(2.0)
        assert time.monotonic_ns() - after.captured_monotonic_ns < 250e6
        made = int(after.pixels[0, 0]) - int(before.pixels[0, 0])
        assert made % 250 > 10 * 8  # some 15 pictures were made meanwhile, 10 levels each; the oldest 4 had waited
        reasons = camera.counters.reasons
    assert reasons["aged"] >= 3
    assert reasons["missing"] >= 5


def test_twenty_triggers_are_twenty_pictures_in_order() -> None:
    with GigeCamera(own=True), AravisCamera(gige_table(trigger="software")) as camera:
        for number in range(20):
            assert camera.trigger() == number
            frame = camera.read(2.0)
            assert frame.sequence == number
            assert np.unique(frame.pixels).tolist() == [10 * number]
        with pytest.raises(CameraIdle):
            camera.read(0.05)
        assert camera.counters.triggers == camera.counters.frames == 20
        assert camera.counters.reasons == {}


def test_trigger_from_another_thread_is_read_here() -> None:
    with GigeCamera(own=True), AravisCamera(gige_table(trigger="software")) as camera:
        threading.Timer(0.2, camera.trigger).start()
        assert camera.read(2.0).sequence == 0


def test_triggers_in_a_burst_are_each_accounted_for() -> None:
    with GigeCamera(own=True), AravisCamera(gige_table(trigger="software")) as camera:
        sent = [camera.trigger() for _ in range(3)]
        seen = [outcome(camera) for _ in sent]
        assert [one.sequence for one in seen] == sent
        assert [isinstance(one, Frame) for one in seen] == [True, False, False]


def test_lost_packets_never_become_a_picture() -> None:
    with GigeCamera(lost_per_thousand=5), AravisCamera(gige_table(**WHOLE, trigger="software")) as camera:
        seen = []
        for _ in range(12):
            camera.trigger()
            seen.append(outcome(camera))
        counters = camera.counters
    lost = [one for one in seen if isinstance(one, FrameLost)]
    assert [one.sequence for one in seen] == list(range(12))
    assert lost
    assert all("incomplete" in str(one) for one in lost)
    assert counters.incomplete == len(lost)
    assert counters.frames == 12 - len(lost)


def test_gap_on_a_hardware_line_is_one_lost_frame() -> None:
    table = gige_table(trigger="hardware", trigger_line="Line0")
    with GigeCamera("--pulses", "--skip-every", "4", own=True), AravisCamera(table) as camera:
        seen = [outcome(camera) for _ in range(10)]
    assert [one.sequence for one in seen] == list(range(10))
    assert [isinstance(one, Frame) for one in seen] == [True] * 3 + [False] + [True] * 4 + [False, True]
    values = [int(one.pixels[0, 0]) for one in seen if isinstance(one, Frame)]
    assert values == [0, 10, 20, 30, 40, 50, 60, 70]


def test_line_that_stands_still_is_no_loss() -> None:
    with GigeCamera(), AravisCamera(gige_table(trigger="hardware", trigger_line="Line0")) as camera:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            with pytest.raises(CameraIdle):
                camera.read(0.3)


@pytest.mark.parametrize("trigger", ["free", "software"])
def test_killed_camera_is_lost_in_time_and_can_be_opened_again(trigger: str) -> None:
    def make() -> AravisCamera:
        return AravisCamera(gige_table(trigger=trigger))

    with GigeCamera(own=True) as device:
        with make() as camera:
            if trigger == "software":
                camera.trigger()
            camera.read(2.0)
            device.kill()
            if trigger == "software":
                assert camera.trigger() == 1
            seen, seconds = until_lost(camera)
            assert seconds < 1.0 + 1.0
            if trigger == "software":
                assert [(one.sequence, type(one)) for one in seen] == [(1, FrameLost)]
            with pytest.raises(CameraLost):
                camera.read(0.1)
            closing = time.monotonic()
        assert time.monotonic() - closing < 1.0
        with pytest.raises(CameraLost, match="no such camera answers"):
            make()
        device.start()
        with reopened(make) as camera:
            if trigger == "software":
                camera.trigger()
            assert camera.read(2.0).sequence == 0


def test_frozen_camera_is_lost_and_comes_back() -> None:
    with GigeCamera() as device:
        with AravisCamera(gige_table()) as camera:
            camera.read(2.0)
            device.freeze()
            _, seconds = until_lost(camera)
        assert seconds < 1.0 + 1.0
        device.thaw()
        with reopened(lambda: AravisCamera(gige_table())) as camera:
            assert camera.read(2.0).sequence == 0


def test_idle_camera_that_dies_is_lost_without_a_trigger() -> None:
    with GigeCamera() as device, AravisCamera(gige_table(trigger="hardware", trigger_line="Line0")) as camera:
        device.kill()
        deadline = time.monotonic() + 8.0
        with pytest.raises(CameraLost, match="no longer answers"):
            while time.monotonic() < deadline:
                try:
                    camera.read(0.3)
                except CameraIdle:
                    continue


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"gain": 3.4}, "gain 3.4, got 3"),
        ({"pixel_format": "Mono12"}, "pixel_format Mono12"),
        ({"trigger": "hardware", "trigger_line": "Line7"}, "trigger source Line7"),
        ({"packet_size": 65535, "gain": 3.4}, "gain 3.4, got 3"),
        ({"device": "nobody"}, "nobody: no such camera answers"),
    ],
)
def test_what_the_device_does_not_take_stops_the_start(asked: dict[str, Any], told: str) -> None:
    with GigeCamera(), pytest.raises(CameraError) as caught:
        AravisCamera(gige_table(**asked))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_asked_for_is_what_the_device_shows() -> None:
    table = gige_table(
        region_xywh=(16, 8, 64, 48), exposure_us=5000.0, gain=2.0, pixel_format="BayerRG8", packet_size=1000
    )
    with GigeCamera(), AravisCamera(table) as camera:
        frame = camera.read(2.0)
        assert frame.pixels.shape == (48, 64, 3)
        camera.close()  # the simulated device does not answer a second program, as real ones do
        shown = dict(features(SERIAL))
    assert shown["region_xywh"] == "[16, 8, 64, 48]"
    assert shown["exposure_us"].startswith("5000 (")
    assert shown["gain"].startswith("2 (")
    assert (shown["pixel_format"], shown["packet_size"]) == ("BayerRG8", "1000")


def test_device_is_found_by_id_serial_and_address() -> None:
    with GigeCamera():
        found, problems = list_cameras()
        ours = next(one for one in found if one.serial == SERIAL)
        assert problems == []
        assert ours.kind == "aravis"
        for name in (ours.device, ours.serial, ours.address, None):
            with AravisCamera(gige_table(device=name)) as camera:
                assert camera.name == (name if name == ours.address else ours.device)


def test_own_pictures_come_bit_for_bit(tmp_path: Any) -> None:
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (96, 128), np.uint8) for _ in range(3)]
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
    with GigeCamera("--pictures", str(tmp_path), own=True), AravisCamera(gige_table(trigger="software")) as camera:
        taken = []
        for _ in pictures:
            camera.trigger()
            taken.append(camera.read(2.0).pixels)
    assert all(np.array_equal(one, other) for one, other in zip(taken, pictures, strict=True))


def test_trigger_of_a_free_running_camera_is_an_error() -> None:
    with (
        GigeCamera(),
        AravisCamera(gige_table()) as camera,
        pytest.raises(CameraError, match="not triggered by software"),
    ):
        camera.trigger()


def test_library_that_is_absent_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aravis_library, "NAME", "libaravis-of-tomorrow.so")
    with pytest.raises(CameraError, match=r"apt-get install libaravis-0\.8-0"):
        Library()
