"""What lies in an archive's folder. No test of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from segdec_edge.outputs.archive import PART_FILE
from segdec_edge.outputs.shelf import ORDER
from segdec_edge.types import Frame, Verdict

MakeVerdict = Callable[..., Verdict]
MakeFrame = Callable[..., Frame]


def kept(folder: Path) -> dict[str, set[int]]:
    """Sequences with an original, by label; fails on a file that should not be there."""
    found: dict[str, set[int]] = {}
    for path in (path for path in folder.rglob("*") if path.is_file() and path.name != ORDER):
        match = PART_FILE.fullmatch(path.name)
        assert match, path
        found.setdefault(path.parent.name, set()).add(int(match["part_id"][-6:]))
    return found


def all_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != ORDER)
