"""What every camera promises, whatever it reads from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from segdec_edge.cameras import open_camera
from segdec_edge.config.camera import CameraConfig, GstreamerConfig, ReplayConfig
from segdec_edge.errors import CameraError, EndOfStream, FrameLost
from segdec_edge.types import Camera, Frame
from tests.gige import GigeCamera, gige_table
from tests.live_sources import need_gstreamer

COUNT = 6


@dataclass(frozen=True)
class Made:
    """A source of at least COUNT pictures 40x24, the n-th of level 10 n; lost of them have no usable picture."""

    table: CameraConfig
    lost: int = 0
    runs_free: bool = False
    """Nobody asks for its pictures, so on a busy machine the first ones may be gone before one is read."""


def _pictures(folder: Path) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(COUNT)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((24, 40), 10 * number, np.uint8))
    return paths


def make_folder(base: Path) -> Made:
    _pictures(base / "pictures")
    return Made(ReplayConfig(path=base / "pictures"))


def make_folder_with_lost_frames(base: Path) -> Made:
    paths = _pictures(base / "pictures")
    paths[0].write_bytes(b"")
    paths[2].write_bytes(paths[2].read_bytes()[:-20])
    paths[3].write_text("no picture")
    return Made(ReplayConfig(path=base / "pictures"), 3)


def make_list(base: Path) -> Made:
    paths = _pictures(base / "pictures")
    (base / "list.txt").write_text("\n".join(f"pictures/{path.name}" for path in paths))
    return Made(ReplayConfig(path=base / "list.txt"))


def make_video(base: Path) -> Made:
    writer = cv2.VideoWriter(str(base / "parts.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (40, 24))
    for number in range(COUNT):
        writer.write(np.full((24, 40, 3), 10 * number, np.uint8))
    writer.release()
    return Made(ReplayConfig(path=base / "parts.avi"))


def make_paced(base: Path) -> Made:
    _pictures(base / "pictures")
    return Made(ReplayConfig(path=base / "pictures", rate_hz=200.0))


def make_gstreamer_file(base: Path) -> Made:
    make_video(base)
    pipeline = f"filesrc location={base / 'parts.avi'} ! avidemux ! jpegdec"
    return Made(GstreamerConfig.model_validate({"kind": "gstreamer", "pipeline": pipeline}))


@contextmanager
def gige_free(base: Path) -> Iterator[Made]:
    with GigeCamera(own=True):
        yield Made(gige_table(region_xywh=(0, 0, 40, 24)), runs_free=True)


@contextmanager
def gige_triggered(base: Path) -> Iterator[Made]:
    with GigeCamera(own=True):
        yield Made(gige_table(region_xywh=(0, 0, 40, 24), trigger="software"))


FINITE = [make_folder, make_folder_with_lost_frames, make_list, make_video, make_paced]
LIVE = [gige_free, gige_triggered]


@pytest.fixture(params=FINITE)
def finite(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    maker: Callable[[Path], Made] = request.param
    return maker(tmp_path)


@pytest.fixture(params=[*FINITE, make_gstreamer_file, *(pytest.param(live, marks=pytest.mark.slow) for live in LIVE)])
def made(request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    if request.param is make_gstreamer_file:
        need_gstreamer(tmp_path_factory)
    if request.param in LIVE:
        with request.param(tmp_path) as live:
            yield live
    else:
        yield request.param(tmp_path)


def read_next(camera: Camera) -> Frame | FrameLost:
    if getattr(camera, "is_triggered_by_software", False):
        camera.trigger()
    try:
        return camera.read(2.0)
    except FrameLost as lost:
        return lost


def read_some(camera: Camera) -> list[Frame | FrameLost]:
    return [read_next(camera) for _ in range(COUNT)]


def read_all(camera: Camera) -> list[Frame | FrameLost]:
    seen: list[Frame | FrameLost] = []
    while True:
        try:
            seen.append(read_next(camera))
        except EndOfStream:
            return seen


def test_every_trigger_has_its_number_once(made: Made) -> None:
    with open_camera(made.table) as camera:
        assert isinstance(camera, Camera)
        seen = read_some(camera)
    assert [one.sequence for one in seen] == list(range(COUNT))
    assert sum(isinstance(one, FrameLost) for one in seen) == made.lost


def test_frames_are_whole_and_say_where_they_come_from(made: Made) -> None:
    with open_camera(made.table) as camera:
        seen = read_some(camera)
    frames = [one for one in seen if isinstance(one, Frame)]
    assert all(one.source for one in seen)
    assert len({one.source for one in seen}) == COUNT
    gone = round(float(frames[0].pixels.mean()) / 10) - frames[0].sequence if made.runs_free else 0
    assert 0 <= gone <= COUNT
    for frame in frames:
        assert frame.pixels.dtype == np.uint8
        assert frame.pixels.shape[:2] == (24, 40)
        assert abs(float(frame.pixels.mean()) - 10 * (frame.sequence + gone)) < 3  # the right one, not an old one


def test_times_never_run_backwards(made: Made) -> None:
    with open_camera(made.table) as camera:
        frames = [one for one in read_some(camera) if isinstance(one, Frame)]
    times = [frame.captured_monotonic_ns for frame in frames]
    assert times == sorted(times)
    assert all(frame.captured_ns > 1_600_000_000 * 10**9 for frame in frames)


def test_the_end_stays_the_end(finite: Made) -> None:
    with open_camera(finite.table) as camera:
        read_all(camera)
        with pytest.raises(EndOfStream):
            camera.read(1.0)


def test_total_is_what_comes(finite: Made) -> None:
    with open_camera(finite.table) as camera:
        assert camera.total == len(read_all(camera)) == COUNT


def test_loop_starts_again_with_new_numbers(finite: Made) -> None:
    seen: list[Frame | FrameLost] = []
    with open_camera(finite.table.model_copy(update={"loop": True})) as camera:
        assert camera.total is None
        for _ in range(2 * COUNT + 1):
            try:
                seen.append(camera.read(1.0))
            except FrameLost as lost:
                seen.append(lost)
    assert [one.sequence for one in seen] == list(range(2 * COUNT + 1))
    assert seen[0].source == seen[COUNT].source == seen[2 * COUNT].source


def test_read_after_close_is_an_error_and_close_may_repeat(made: Made) -> None:
    with open_camera(made.table) as camera:
        pass
    camera.close()
    with pytest.raises(CameraError, match="closed"):
        camera.read(1.0)
