"""What is asked of a USB camera and what it must give back. The capture is a fake: V4L2 needs a kernel module."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segdec_edge.cameras import open_camera
from segdec_edge.cameras.draining import DrainingCamera
from segdec_edge.cameras.opencv import ask, list_devices
from segdec_edge.config.camera import V4l2Config
from segdec_edge.errors import CameraError, CameraLost

WIDTH, HEIGHT, FPS = cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS
FULL: dict[str, Any] = {
    "size_hw": (720, 1280),
    "rate_hz": 30.0,
    "fourcc": "MJPG",
    "exposure_us": 2000.0,
    "gain": 4.0,
}


class Device:
    """Keeps what it is told, but for what it is stubborn about; frames at 100 a second."""

    def __init__(self, stubborn: dict[int, float] | None = None) -> None:
        self.stubborn = stubborn or {}
        self.kept: dict[int, float] = {}
        self.order: list[int] = []
        self.released = False
        self.number = 0

    def set(self, prop: int, value: float) -> bool:
        self.order.append(prop)
        self.kept[prop] = value
        return True  # as V4L2 drivers do that clamp a value

    def get(self, prop: int) -> float:
        if prop == cv2.CAP_PROP_POS_MSEC:
            return time.monotonic() * 1e3
        return self.stubborn.get(prop, self.kept.get(prop, 0.0))

    def grab(self) -> bool:
        time.sleep(0.01)
        return True

    def retrieve(self) -> tuple[bool, NDArray[np.generic]]:
        self.number += 1
        return True, np.full((4, 6, 3), self.number % 256, np.uint8)

    def release(self) -> None:
        self.released = True


def config(**changes: Any) -> V4l2Config:
    return V4l2Config(kind="v4l2", **{**FULL, **changes})


def test_device_that_does_as_asked_is_taken() -> None:
    device = Device()
    ask(device, "/dev/video0", config())
    assert not device.released
    assert device.kept[cv2.CAP_PROP_EXPOSURE] == 20
    assert device.kept[cv2.CAP_PROP_AUTO_EXPOSURE] == 1
    assert device.order[0] == cv2.CAP_PROP_FOURCC  # sizes and rates depend on it
    assert device.order.index(cv2.CAP_PROP_AUTO_EXPOSURE) < device.order.index(cv2.CAP_PROP_EXPOSURE)


def test_what_is_not_written_is_not_touched() -> None:
    device = Device()
    ask(device, "/dev/video0", V4l2Config(kind="v4l2"))
    assert device.order == []


@pytest.mark.parametrize(
    ("prop", "value", "told"),
    [
        (WIDTH, 640, "width 1280, got 640"),
        (HEIGHT, 480, "height 720, got 480"),
        (FPS, 15, "rate_hz 30, got 15"),
        (FPS, float("nan"), "rate_hz 30, got nan"),
        (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"YUYV"), "fourcc MJPG, got YUYV"),
        (cv2.CAP_PROP_AUTO_EXPOSURE, 3, "manual exposure 1, got 3"),
        (cv2.CAP_PROP_EXPOSURE, 156, "exposure in 100 µs 20, got 156"),
        (cv2.CAP_PROP_GAIN, 0, "gain 4, got 0"),
    ],
)
def test_device_that_ignores_a_setting_is_refused(prop: int, value: float, told: str) -> None:
    device = Device({prop: value})
    with pytest.raises(CameraError, match="ignored what was asked") as caught:
        ask(device, "/dev/video0", config())
    assert told in str(caught.value)
    assert device.released


def test_every_ignored_setting_is_told_at_once() -> None:
    with pytest.raises(CameraError, match="width 1280, got 640; height 720, got 480"):
        ask(Device({WIDTH: 640, HEIGHT: 480}), "/dev/video0", config())


def test_rate_within_a_hundredth_is_taken() -> None:
    ask(Device({FPS: 29.97}), "/dev/video0", config())


def test_frames_come_from_a_device_that_is_taken() -> None:
    device = Device()
    ask(device, "/dev/video0", config())
    with DrainingCamera(device, "/dev/video0", max_age_s=0.25) as camera:
        assert [camera.read(2.0).sequence for _ in range(3)] == [0, 1, 2]
    assert device.released


@pytest.mark.parametrize("device", [250, "/dev/v4l/by-id/usb-none"])
def test_missing_device_is_a_lost_camera(device: int | str) -> None:
    with pytest.raises(CameraLost, match="no such camera"):
        open_camera(config(device=device))


def test_file_that_is_no_camera_is_a_lost_camera(tmp_path: Path) -> None:
    (tmp_path / "video0").write_text("")
    with pytest.raises(CameraLost, match="cannot be opened"):
        open_camera(config(device=str(tmp_path / "video0")))


def test_list_shows_one_entry_a_camera(tmp_path: Path) -> None:
    system, links = tmp_path / "class", tmp_path / "by-id"
    for node, name, index in (("video10", "Late", "0"), ("video0", "HD Camera", "0"), ("video1", "HD Camera", "1")):
        (system / node).mkdir(parents=True)
        (system / node / "name").write_text(f"{name}\n")
        (system / node / "index").write_text(f"{index}\n")
    links.mkdir()
    for number in (0, 1):
        (links / f"usb-HD_Camera-video-index{number}").symlink_to(tmp_path / f"video{number}")
    found = list_devices(system, links)
    assert [(str(one.path), one.model) for one in found] == [("/dev/video0", "HD Camera"), ("/dev/video10", "Late")]
    assert found[0].by_id == links / "usb-HD_Camera-video-index0"
    assert found[1].by_id is None


def test_list_is_empty_where_there_is_none(tmp_path: Path) -> None:
    assert list_devices(tmp_path / "none", tmp_path / "none") == []
