"""What is special about pictures from disk."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from segdec_edge.cameras import replay
from segdec_edge.cameras.replay import ReplayCamera
from segdec_edge.errors import CameraError, CameraLost, EndOfStream, FrameLost


def picture(path: Path, value: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((16, 16), value, np.uint8))
    return path


def video(path: Path, frames: int, codec: str = "MJPG") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25, (64, 48))
    noise = np.random.default_rng(0)
    for _ in range(frames):
        writer.write(noise.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    return path


def names(camera: ReplayCamera) -> list[str]:
    with camera:
        return [Path(camera.read(1.0).source).name for _ in range(camera.total or 0)]


def test_folder_is_recursive_sorted_and_without_what_is_no_picture(tmp_path: Path) -> None:
    for name in ("b/1.png", "a/2.PNG", "a/10.jpg", ".hidden.png", ".trash/3.png", "c.bmp"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "mask.json").write_text("{}")
    assert names(ReplayCamera(tmp_path)) == ["10.jpg", "2.PNG", "1.png", "c.bmp"]


def test_hidden_folder_above_the_pictures_does_not_hide_them(tmp_path: Path) -> None:
    picture(tmp_path / ".cache" / "parts" / "1.png")
    assert names(ReplayCamera(tmp_path / ".cache" / "parts")) == ["1.png"]


def test_pattern_picks_pictures(tmp_path: Path) -> None:
    for name in ("1_front.png", "1_back.png", "deep/2_front.png"):
        picture(tmp_path / name)
    assert names(ReplayCamera(tmp_path, pattern="*_front.png")) == ["1_front.png", "2_front.png"]


def test_list_is_relative_to_its_file_and_keeps_its_order(tmp_path: Path) -> None:
    picture(tmp_path / "lots" / "b.png")
    absolute = picture(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "lots" / "list.txt").write_text(f"b.png\n\n{absolute}\nb.png\n", encoding="utf-8-sig")
    assert names(ReplayCamera(tmp_path / "lots" / "list.txt")) == ["b.png", "a.png", "b.png"]


def test_missing_picture_of_a_list_is_one_lost_frame(tmp_path: Path) -> None:
    picture(tmp_path / "there.png")
    (tmp_path / "list.txt").write_text("gone.png\nthere.png\n")
    with ReplayCamera(tmp_path / "list.txt") as camera:
        with pytest.raises(FrameLost, match="no such picture") as caught:
            camera.read(1.0)
        assert (caught.value.sequence, caught.value.source) == (0, str(tmp_path / "gone.png"))
        assert camera.read(1.0).sequence == 1


def test_picture_that_vanishes_during_the_replay_is_a_lost_frame(tmp_path: Path) -> None:
    paths = [picture(tmp_path / f"{number}.png") for number in range(3)]
    with ReplayCamera(tmp_path) as camera:
        camera.read(1.0)
        paths[1].unlink()
        with pytest.raises(FrameLost):
            camera.read(1.0)
        assert camera.read(1.0).sequence == 2


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda base: base / "nowhere", "no such folder or file"),
        (lambda base: base, "no pictures there"),
        (lambda base: base / "empty.txt", "no pictures there"),
        (lambda base: base / "binary.txt", "cannot be read as text"),
        (lambda base: base / "broken.avi", "not a readable video"),
        (lambda base: base / "part.xyz", "wanted a folder"),
        (lambda base: base / "suffixless", "no suffix"),
    ],
)
def test_nothing_to_replay_is_told_at_the_start(tmp_path: Path, make, told: str) -> None:
    for name in ("empty.txt", "part.xyz", "suffixless"):
        (tmp_path / name).write_text("\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x80")
    (tmp_path / "broken.avi").write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(CameraError, match=told):
        ReplayCamera(make(tmp_path))


def test_pattern_without_a_match_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    with pytest.raises(CameraError, match=r"camera\.pattern"):
        ReplayCamera(tmp_path, pattern="*.bmp")


class Clock:
    """Stands in for the module `time`: what sleeps, moves it on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def monotonic_ns(self) -> int:
        return round(self.now * 1e9)

    time_ns = monotonic_ns

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stands = Clock()
    monkeypatch.setattr(replay, "time", stands)
    return stands


def test_triggers_come_on_a_schedule_that_does_not_drift(tmp_path: Path, clock: Clock) -> None:
    picture(tmp_path / "part.png")
    with ReplayCamera(tmp_path, rate_hz=30.0, loop=True) as camera:
        for sequence in range(1000):
            camera.read(1.0)
            assert clock.now == pytest.approx(1000.0 + sequence / 30)
            clock.sleep(0.02)  # the reader's own work


def test_reader_that_was_late_gets_the_missed_triggers_at_once(tmp_path: Path, clock: Clock) -> None:
    picture(tmp_path / "part.png")
    times = []
    with ReplayCamera(tmp_path, rate_hz=10.0, loop=True) as camera:
        for sequence in range(6):
            camera.read(1.0)
            times.append(clock.now - 1000.0)
            clock.sleep(0.35 if sequence == 0 else 0.0)
    assert times == pytest.approx([0.0, 0.35, 0.35, 0.35, 0.4, 0.5])


def test_as_fast_as_possible_never_sleeps(tmp_path: Path, clock: Clock) -> None:
    picture(tmp_path / "part.png")
    with ReplayCamera(tmp_path, loop=True) as camera:
        assert [camera.read(1.0).sequence for _ in range(50)] == list(range(50))
    assert clock.now == 1000.0


def test_rate_is_kept_in_real_time(tmp_path: Path) -> None:
    picture(tmp_path / "part.png")
    with ReplayCamera(tmp_path, rate_hz=20.0, loop=True) as camera:
        first = camera.read(1.0).captured_monotonic_ns
        offsets = [(camera.read(1.0).captured_monotonic_ns - first) / 1e9 - n / 20 for n in range(1, 11)]
    # At the least disturbed trigger: a busy machine is late, and the schedule catches up again.
    assert min(abs(offset) for offset in offsets[4:]) < 0.2 * 5 / 20
    assert offsets[-1] > -0.05


def test_end_comes_without_a_wait(tmp_path: Path) -> None:
    picture(tmp_path / "only.png")
    with ReplayCamera(tmp_path, rate_hz=1.0) as camera:
        camera.read(2.0)
        started = time.monotonic()
        with pytest.raises(EndOfStream):
            camera.read(2.0)
    assert time.monotonic() - started < 0.5


def test_no_trigger_in_time_is_a_lost_camera_and_uses_up_no_picture(tmp_path: Path) -> None:
    for number in range(2):
        picture(tmp_path / f"{number}.png")
    with ReplayCamera(tmp_path, rate_hz=5.0) as camera:
        camera.read(1.0)
        with pytest.raises(CameraLost, match="no frame within"):
            camera.read(0.05)
        assert camera.read(1.0).sequence == 1


@pytest.mark.parametrize("part", [0.40, 0.45, 0.50, 0.55, 0.60])
def test_cut_video_gives_no_cut_frame_and_is_never_taken_for_a_short_one(tmp_path: Path, part: float) -> None:
    whole = video(tmp_path / "whole.avi", 20)
    (tmp_path / "cut.avi").write_bytes(whole.read_bytes()[: int(whole.stat().st_size * part)])
    seen = 0
    with ReplayCamera(whole) as original, ReplayCamera(tmp_path / "cut.avi") as camera:
        assert camera.total == 20
        with pytest.raises(FrameLost, match="cut or missing") as lost:
            while True:
                assert np.array_equal(camera.read(1.0).pixels, original.read(1.0).pixels)
                seen += 1
        assert 5 <= seen < 15
        assert lost.value.sequence == seen
        with pytest.raises(FrameLost, match="cut or missing"):
            camera.read(1.0)
        with pytest.raises(CameraLost, match="ends before frame"):
            camera.read(1.0)


def faststart(path: Path) -> None:
    """Move an MP4 file's table of contents to its front, as cameras write it; then a cut file still opens."""
    data, parts, at = path.read_bytes(), {}, 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        parts[data[at + 4 : at + 8]] = bytearray(data[at : at + length])
        at += length
    contents = parts.pop(b"moov")
    table = contents.index(b"stco") + 8
    for entry in range(table + 4, table + 4 + 4 * int.from_bytes(contents[table : table + 4], "big"), 4):
        moved = int.from_bytes(contents[entry : entry + 4], "big") + len(contents)
        contents[entry : entry + 4] = moved.to_bytes(4, "big")
    path.write_bytes(parts.pop(b"ftyp") + contents + b"".join(parts.values()))


@pytest.mark.parametrize(("suffix", "codec"), [("avi", "MJPG"), ("mp4", "mp4v"), ("mkv", "MJPG")])
def test_video_cut_anywhere_gives_only_whole_frames_and_never_looks_complete(
    tmp_path: Path, suffix: str, codec: str
) -> None:
    path, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    video(path, 8, codec)
    if suffix == "mp4":
        faststart(path)
    with ReplayCamera(path) as original:
        whole = [original.read(1.0).pixels for _ in range(8)]
    for part in np.linspace(0.02, 0.99, 60):
        cut.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
        seen, ended = shown(cut)
        assert all(np.array_equal(pixels, whole[sequence]) for sequence, pixels in seen.items())
        assert ended != "complete" or len(seen) == 8, f"cut at {part:.2f}: {len(seen)} frames taken for all"


def shown(path: Path) -> tuple[dict[int, np.ndarray], str]:
    """The frames of a video by their numbers, and how it ended."""
    seen, lost = {}, 0
    try:
        with ReplayCamera(path) as camera:
            while True:
                try:
                    frame = camera.read(1.0)
                    seen[frame.sequence] = frame.pixels
                except FrameLost:
                    lost += 1
    except EndOfStream:
        return seen, "short" if lost else "complete"
    except CameraError as error:
        assert "\n" not in str(error)
        return seen, "refused"
