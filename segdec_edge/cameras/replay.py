"""Pictures from disk as if a camera had taken them, at a given rate. Knows no network and no verdict.

What it cannot see: damage inside a video that the decoder patched up. Picture files are checked, so prefer them.
"""

from __future__ import annotations

import time
from fnmatch import fnmatch
from pathlib import Path
from types import TracebackType
from typing import Protocol

import cv2
import numpy as np

from segdec_edge.cameras.containers import ends_early
from segdec_edge.errors import CameraError, CameraLost, EndOfStream, FrameLost, PictureError
from segdec_edge.pictures import SUFFIXES, read_picture
from segdec_edge.types import Frame, Pixels

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})


class ReplayCamera:
    """A folder (recursive, sorted by name), a video file, or a .txt list of picture paths, once or looped.

    rate_hz: triggers a second on a schedule that starts with the first read and does not drift, so a slow reader meets
    the missed triggers in a burst; 0 is as fast as possible. A frame's times are those when its pixels were complete:
    reading the file stands for exposure and transfer. Raises CameraError where there is nothing to replay.
    """

    def __init__(self, path: Path, rate_hz: float = 0.0, loop: bool = False, pattern: str = "*") -> None:
        self._source = _open_source(path, pattern)
        self._rate_hz, self._loop = rate_hz, loop
        self._triggers = 0
        self._started: float | None = None
        self._closed = False

    @property
    def total(self) -> int | None:
        """How many triggers there will be; None where it loops or where a video does not tell."""
        return None if self._loop else self._source.total

    def read(self, timeout_s: float) -> Frame:
        """The next picture. Raises FrameLost where it cannot be read (its trigger is used up), EndOfStream at the end,
        CameraLost where no trigger comes within timeout_s, CameraError after close().
        """
        if self._closed:
            raise CameraError(f"{self._source.name}: the camera was closed. Open it again.")
        due = self._due(timeout_s)
        source = self._advance()
        time.sleep(max(0.0, due - time.monotonic()))
        sequence, self._triggers = self._triggers, self._triggers + 1
        try:
            pixels = self._source.pixels()
        # cv2.error: OpenCV raises it for a picture above its own pixel limit.
        except (PictureError, cv2.error) as error:
            raise FrameLost(
                " ".join(str(error).split()), sequence=sequence, source=source, captured_ns=time.time_ns()
            ) from error
        return Frame(pixels, sequence, time.time_ns(), time.monotonic_ns(), source)

    def close(self) -> None:
        """Release the source; closing twice is harmless."""
        self._closed = True
        self._source.close()

    def __enter__(self) -> ReplayCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _due(self, timeout_s: float) -> float:
        """When the next trigger comes, in seconds of the monotonic clock."""
        now = time.monotonic()
        self._started = now if self._started is None else self._started
        due = self._started + self._triggers / self._rate_hz if self._rate_hz > 0 else now
        if due - now > timeout_s:
            time.sleep(timeout_s)
            raise CameraLost(
                f"{self._source.name}: no frame within {timeout_s:g} s at {self._rate_hz:g} Hz. Raise the time limit."
            )
        return due

    def _advance(self) -> str:
        try:
            return self._source.advance()
        except EndOfStream:
            if not self._loop:
                raise
        self._source.rewind()
        return self._source.advance()


class _Source(Protocol):
    """advance() picks the next picture and names it, or raises EndOfStream; pixels() reads it, or PictureError."""

    name: str

    @property
    def total(self) -> int | None: ...
    def advance(self) -> str: ...
    def pixels(self) -> Pixels: ...
    def rewind(self) -> None: ...
    def close(self) -> None: ...


class _Pictures:
    """Picture files, one after the other."""

    def __init__(self, name: str, paths: list[Path]) -> None:
        self.name = name
        self._paths = paths
        self._next = 0

    @property
    def total(self) -> int:
        return len(self._paths)

    def advance(self) -> str:
        if self._next >= len(self._paths):
            raise EndOfStream(f"{self.name}: all {len(self._paths)} pictures were shown.")
        self._next += 1
        return str(self._paths[self._next - 1])

    def pixels(self) -> Pixels:
        return read_picture(self._paths[self._next - 1])

    def rewind(self) -> None:
        self._next = 0

    def close(self) -> None:
        pass


class _Video:
    """A video file. Where it ends before the announced frame count, its last frame and the next are lost, then it is.

    The last one too: a decoder fills the missing rows of a cut frame and calls it whole (seen with MJPG). A file that
    is cut inside its very last frame is known by its container's length.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._capture = cv2.VideoCapture(self.name)
        announced = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.total = announced if announced > 0 else None
        self._cut = ends_early(path)
        self._pixels: Pixels | None = None
        self._next, self._missing, self._more = 0, False, bool(self._capture.grab())
        if not self._more:
            self.close()
            raise CameraError(f"{path}: not a readable video, or without a frame. Convert it to MJPG or H.264.")

    def advance(self) -> str:
        if not self._more and self._next >= (self.total or 0):
            raise EndOfStream(f"{self.name}: all {self._next} frames were shown.")
        if not self._more and self._missing:
            raise CameraLost(f"{self.name}: ends before frame {self._next} of {self.total}. Copy it again.")
        self._missing = not self._more
        decoded, pixels = self._capture.retrieve() if self._more else (False, None)
        self._more = self._more and self._capture.grab()
        self._next += 1
        whole = decoded and (self._more or (self._next >= (self.total or 0) and not self._cut))
        self._pixels = np.asarray(pixels, dtype=np.uint8) if whole else None
        return f"{self.name}#{self._next - 1}"

    def pixels(self) -> Pixels:
        if self._pixels is None:
            raise PictureError(f"{self.name}: frame {self._next - 1} of {self.total} is cut or missing. Copy it again.")
        return self._pixels

    def rewind(self) -> None:
        self._capture.release()
        self._capture = cv2.VideoCapture(self.name)
        self._next, self._missing, self._more = 0, False, bool(self._capture.grab())

    def close(self) -> None:
        self._capture.release()


def _open_source(path: Path, pattern: str) -> _Source:
    if path.is_dir():
        return _Pictures(str(path), _some(path, _in_folder(path, pattern)))
    if not path.exists():
        raise CameraError(f"{path}: no such folder or file. Check camera.path.")
    match path.suffix.lower():
        case ".txt":
            return _Pictures(str(path), _some(path, _in_list(path)))
        case suffix if suffix in VIDEO_SUFFIXES:
            return _Video(path)
        case suffix:
            raise CameraError(f"{path}: {suffix or 'no suffix'}, wanted a folder, a .txt list or a video. Change it.")


def _some(path: Path, pictures: list[Path]) -> list[Path]:
    if not pictures:
        raise CameraError(f"{path}: no pictures there, wanted at least one. Check camera.path and camera.pattern.")
    return pictures


def _in_folder(folder: Path, pattern: str) -> list[Path]:
    """Pictures under a folder that fit the pattern, sorted by relative name; nothing hidden."""
    try:
        relative = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    except OSError as error:
        raise CameraError(f"{error.filename}: cannot be read ({error.strerror}). Check camera.path.") from error
    return [folder / name for name in relative if _is_picture(Path(name)) and fnmatch(name, pattern)]


def _is_picture(relative: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts)
    return relative.suffix.lower() in SUFFIXES and not hidden


def _in_list(path: Path) -> list[Path]:
    """The lines of a list, relative to its folder. A picture that is missing is a lost frame, not an error here."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CameraError(f"{path}: cannot be read as text ({error}). Write one picture path a line.") from error
    return [path.parent / line.strip() for line in lines if line.strip()]
