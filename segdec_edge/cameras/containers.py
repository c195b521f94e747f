"""Does a video file hold all that its container announces? Knows no picture.

What it cannot see: a cut Matroska or WebM file; their reader leaves a cut frame out, where that of AVI paints it over.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO


def ends_early(path: Path) -> bool:
    """Whether an AVI, MP4 or MOV file is shorter than its outermost parts say; False where that cannot be told."""
    try:
        with path.open("rb") as file:
            is_riff = file.read(4) == b"RIFF"
            return _end_of_parts(file, is_riff, path.stat().st_size) > path.stat().st_size
    except OSError:
        return False


def _end_of_parts(file: BinaryIO, is_riff: bool, size: int) -> int:
    """Where the last part would end: parts follow each other, and each begins with its length."""
    end = 0
    while end < size:
        file.seek(end)
        length = _riff_length(file.read(8)) if is_riff else _mp4_length(file.read(16))
        if length < 8:  # 0 is "to the end of the file", or a recorder that never came back to write it
            return size
        end += length
    return end


def _riff_length(head: bytes) -> int:
    if len(head) < 8 or head[:4] != b"RIFF":
        return 0
    length: int = struct.unpack("<I", head[4:8])[0]
    return 8 + length + length % 2


def _mp4_length(head: bytes) -> int:
    if len(head) < 8 or not head[4:8].isascii():
        return 0
    length: int = struct.unpack(">I", head[:4])[0]
    return length if length != 1 or len(head) < 16 else int(struct.unpack(">Q", head[8:16])[0])
