from __future__ import annotations

import resource
from contextlib import ExitStack
from pathlib import Path

import pytest

from segdec_edge.errors import StorageError, TrainingError
from segdec_edge.training.lock import LOCK, hold


def test_the_lock_is_held_until_the_end_and_names_its_holder(tmp_path: Path) -> None:
    notes: list[str] = []
    with ExitStack() as until:
        hold(tmp_path, until, notes.append)
        number = (tmp_path / LOCK).read_text()
        with ExitStack() as second, pytest.raises(TrainingError, match=rf"\(process {number.strip()}\)"):
            hold(tmp_path, second, notes.append)
        assert (tmp_path / LOCK).read_text() == number
    with ExitStack() as later:
        hold(tmp_path, later, notes.append)
    assert notes == []


def test_a_file_that_cannot_be_locked_is_noted(tmp_path: Path) -> None:
    (tmp_path / LOCK).symlink_to("/dev/full")  # a device: cannot be cut to nothing, as file systems without locks
    notes: list[str] = []
    with ExitStack() as until:
        hold(tmp_path, until, notes.append)
    assert len(notes) == 1
    assert notes[0].startswith(f"{tmp_path}: cannot be locked (")


def test_no_room_for_the_lock_is_told_in_one_line(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with ExitStack() as until, pytest.raises(StorageError, match=rf"{LOCK}: cannot be written \(File too large\)"):
            hold(tmp_path, until, print)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
