"""The draining thread against a capture that does what its test says, at 100 frames a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segdec_edge.cameras.draining import DrainingCamera
from segdec_edge.errors import CameraError, CameraLost

RATE = 100
SETTLE_S = 0.2
SETTLED = 30  # frames; by then the stream's clock is trusted


class Fake:
    """A cv2.VideoCapture of a stream whose frame n shows n and was made at n / RATE.

    before(n) runs in grab(), after frame n is due: it may sleep, and it ends the stream by giving False.
    """

    def __init__(self, before: Callable[[int], bool | None] = lambda _: None, size: Callable[[int], int] = lambda _: 8):
        self.before, self.size = before, size
        self.number, self.started, self.released = -1, time.monotonic(), threading.Event()
        self.intra: set[int] = set()
        self.skipped: set[int] = set()
        self.unreadable: set[int] = set()
        self.stamped = True

    def grab(self) -> bool:
        self.number += 1
        while self.number in self.skipped:
            self.number += 1
        time.sleep(max(0.0, self.started + self.number / RATE - time.monotonic()))
        return self.before(self.number) is not False

    def retrieve(self) -> tuple[bool, NDArray[np.generic] | None]:
        if self.number in self.unreadable:
            return False, None
        return True, np.full((self.size(self.number), 8, 3), self.number % 256, np.uint8)

    def get(self, prop: int) -> float:
        if prop == cv2.CAP_PROP_POS_MSEC:
            return self.number / RATE * 1e3 if self.stamped else 0.0
        return float(ord("I" if self.number in self.intra else "P"))

    def release(self) -> None:
        self.released.set()


Opened = Callable[..., DrainingCamera]


@pytest.fixture
def opened() -> Iterator[Opened]:
    cameras: list[DrainingCamera] = []

    def open_one(capture: Fake, max_age_s: float = 0.1, predicted: bool = False) -> DrainingCamera:
        cameras.append(DrainingCamera(capture, "fake", max_age_s=max_age_s, predicted=predicted, settle_s=SETTLE_S))
        return cameras[-1]

    yield open_one
    for camera in cameras:
        camera.close()


def numbers(camera: DrainingCamera, count: int) -> list[int]:
    return [int(camera.read(2.0).pixels[0, 0, 0]) for _ in range(count)]


def test_no_frame_comes_twice_and_all_that_were_not_read_are_counted(opened: Opened) -> None:
    capture = Fake()
    camera = opened(capture)
    seen = numbers(camera, 10)
    time.sleep(0.3)
    seen += numbers(camera, 10)
    assert seen == sorted(set(seen))
    assert seen[10] - seen[9] >= 25
    assert camera.counters.reasons["superseded"] >= 25
    assert camera.counters.reasons["settling"] >= 19


def test_frames_are_numbered_and_timed(opened: Opened) -> None:
    frames = [opened(Fake()).read(2.0)] + [camera.read(2.0) for camera in [opened(Fake())] for _ in range(3)]
    assert [(frame.sequence, frame.source) for frame in frames[1:]] == [(n, f"fake#{n}") for n in range(3)]
    assert all(frame.device_ns == round(int(frame.pixels[0, 0, 0]) / RATE * 1e9) for frame in frames)
    assert abs(frames[-1].captured_monotonic_ns - time.monotonic_ns()) < 1e9
    assert abs(frames[-1].captured_ns - time.time_ns()) < 1e9


def test_frames_held_up_are_not_given(opened: Opened) -> None:
    """The stream hangs for half a second, then everything that was held up comes at once."""
    capture = Fake(lambda number: time.sleep(0.5) if number == SETTLED else None)
    camera = opened(capture)
    seen = numbers(camera, 20)
    held = set(range(SETTLED, SETTLED + 35))
    assert max(seen) > SETTLED + 40
    assert not held & set(seen)
    assert camera.counters.reasons["stale"] >= 35


def test_frame_that_waited_too_long_is_not_given(opened: Opened) -> None:
    resumed = threading.Event()
    capture = Fake(lambda number: resumed.wait(2.0) if number == SETTLED else None)
    camera = opened(capture)
    time.sleep(SETTLED / RATE + 0.2)  # frame 29 lies there now, 0.2 s old
    with pytest.raises(CameraLost, match=r"no fresh frame within 0\.05 s.*1 aged"):
        camera.read(0.05)
    resumed.set()


def test_driver_that_hangs_is_told_in_time_and_may_be_closed(opened: Opened) -> None:
    resumed = threading.Event()
    capture = Fake(lambda number: resumed.wait(10.0) if number == SETTLED else None)
    camera = opened(capture)
    numbers(camera, 3)
    started = time.monotonic()
    with pytest.raises(CameraLost, match="no fresh frame"):
        while True:
            camera.read(0.2)
    assert time.monotonic() - started < 5.0
    camera.close()
    assert not capture.released.is_set()  # the thread still holds it; a foreign release would crash the driver
    resumed.set()
    assert capture.released.wait(2.0)


def test_end_of_the_stream_is_a_lost_camera_and_stays_one(opened: Opened) -> None:
    capture = Fake(lambda number: number < SETTLED)
    camera = opened(capture)
    for _ in range(2):
        with pytest.raises(CameraLost, match="ended or fell silent"):
            numbers(camera, 100)
    assert capture.released.wait(2.0)


def test_fault_in_the_driver_is_a_lost_camera(opened: Opened) -> None:
    def fail(number: int) -> None:
        if number == 3:
            raise cv2.error("OpenCV(5.0)\nassertion failed")

    with pytest.raises(CameraLost, match=r"OpenCV failed \(OpenCV\(5\.0\) assertion failed\)"):
        opened(Fake(fail)).read(1.0)


def test_picture_that_changes_its_size_is_a_lost_camera(opened: Opened) -> None:
    camera = opened(Fake(size=lambda number: 8 if number < SETTLED else 16))
    with pytest.raises(CameraLost, match=r"changed from \(8, 8, 3\) to \(16, 8, 3\)"):
        numbers(camera, 100)


def test_unreadable_frames_are_counted_and_left_out(opened: Opened) -> None:
    capture = Fake()
    capture.unreadable = {SETTLED + 2, SETTLED + 3}
    camera = opened(capture)
    seen = numbers(camera, 20)
    assert not capture.unreadable & set(seen)
    assert camera.counters.reasons["unreadable"] == 2


def test_after_a_missing_frame_all_wait_for_one_that_stands_alone(opened: Opened) -> None:
    capture = Fake()
    capture.intra = {1, SETTLED + 20}
    capture.skipped = {SETTLED + 10}
    camera = opened(capture, predicted=True)
    seen = numbers(camera, 30)
    assert not set(range(SETTLED + 10, SETTLED + 20)) & set(seen)
    assert {SETTLED + 9, SETTLED + 20} & set(seen)
    assert camera.counters.reasons["missing"] == 1
    assert camera.counters.reasons["damaged"] >= 9


def test_stream_that_never_stands_alone_gives_nothing(opened: Opened) -> None:
    with pytest.raises(CameraLost, match="damaged"):
        opened(Fake(), predicted=True).read(1.0)


def test_stream_without_time_stamps_gives_nothing(opened: Opened) -> None:
    capture = Fake()
    capture.stamped = False
    with pytest.raises(CameraLost, match="settling"):
        opened(capture).read(1.0)


def test_read_after_close_is_an_error_and_ends_a_read_that_waits(opened: Opened) -> None:
    camera = opened(Fake(lambda number: time.sleep(0.05 * (number > 2))))
    threading.Timer(0.1, camera.close).start()
    started = time.monotonic()
    with pytest.raises(CameraError, match="closed"):
        camera.read(5.0)
    assert time.monotonic() - started < 3.0
    camera.close()
