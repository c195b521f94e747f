"""The archive: what it keeps, what it deletes, and that it never stops anyone."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from segdec_edge.outputs.archive import PART_FILE, Archive
from segdec_edge.pictures import read_picture
from segdec_edge.types import Frame, Label, Verdict

MakeVerdict = Callable[..., Verdict]
MakeFrame = Callable[..., Frame]


def kept(folder: Path) -> dict[str, set[int]]:
    """Sequences with an original, by label; fails on a file that should not be there."""
    found: dict[str, set[int]] = {}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        match = PART_FILE.fullmatch(path.name)
        assert match, path
        found.setdefault(path.parent.name, set()).add(int(match["part_id"][-6:]))
    return found


@pytest.mark.parametrize(
    ("keep", "labels"),
    [("defect", {"DEFECT", "UNKNOWN"}), ("all", {"OK", "DEFECT", "UNKNOWN"}), ("none", set())],
)
def test_keeps_what_it_was_asked_to(
    tmp_path: Path, keep, labels: set[str], make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    archive = Archive(tmp_path / "archive", keep)
    for sequence, label in enumerate(Label):
        archive.write(make_verdict(sequence, label), make_frame(sequence))
        assert archive.wants(label) == (label.value in labels)
    assert set(kept(tmp_path / "archive")) == labels
    assert archive.failures == 0


@pytest.mark.parametrize("shape", [(32, 48), (32, 48, 3), (5, 3), (2000, 900)])
def test_original_is_bit_for_bit_and_overlay_readable(
    tmp_path: Path, shape: tuple[int, ...], make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    verdict, frame = make_verdict(), make_frame(0, shape)
    Archive(tmp_path).write(verdict, frame)
    folder = tmp_path / "DEFECT"
    assert np.array_equal(read_picture(folder / f"{verdict.part_id}.png"), frame.pixels)
    shown = read_picture(folder / f"{verdict.part_id}_overlay.jpg")
    assert shown.shape[1] == max(480, shape[1])
    assert shown.shape[0] > shape[0] * shown.shape[1] / shape[1]  # the caption is above it, not in it
    assert len(list(folder.iterdir())) == 2


def test_heat_is_seen_where_it_was(tmp_path: Path, make_verdict: MakeVerdict) -> None:
    heat = np.zeros((8, 8), np.float32)
    heat[:, 6:] = 1.0
    verdict = make_verdict(heatmap=heat)
    Archive(tmp_path).write(verdict, Frame(np.full((480, 480), 60, np.uint8), 0, 1, 1, "x"))
    shown = read_picture(tmp_path / "DEFECT" / f"{verdict.part_id}_overlay.jpg")[-480:]
    colour = np.ptp(shown.astype(int), axis=2)
    assert colour[:, :200].mean() < 5 < 30 < colour[:, -50:].mean()


def test_unjudged_part_is_kept_with_its_reason(
    tmp_path: Path, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    archive = Archive(tmp_path)
    archive.write(make_verdict(0, Label.UNKNOWN, score=None, heatmap=None, reason="kaputt ä\u4e2d"), make_frame())
    archive.write(make_verdict(1, Label.UNKNOWN, score=None, heatmap=None), None)
    assert kept(tmp_path) == {"UNKNOWN": {0}}
    assert archive.failures == 0


def test_archive_that_cannot_be_written_counts_and_warns_once(
    tmp_path: Path, make_verdict: MakeVerdict, make_frame: MakeFrame, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "archive").write_text("a file, not a folder")
    for cap in (None, 10**6):
        caplog.clear()
        archive = Archive(tmp_path / "archive", max_bytes=cap)
        with caplog.at_level(logging.WARNING):
            for sequence in range(3):
                archive.write(make_verdict(sequence), make_frame(sequence))
        assert archive.failures == 3
        assert len(caplog.records) == 1


def test_picture_that_cannot_be_encoded_is_counted(tmp_path: Path, make_verdict: MakeVerdict) -> None:
    archive = Archive(tmp_path)
    archive.write(make_verdict(), Frame(np.zeros((0, 0), np.uint8), 0, 1, 1, "x"))
    assert archive.failures == 1


def test_full_disk_is_counted_and_leaves_no_half_file(
    tiny_disk: Path, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    archive = Archive(tiny_disk / "archive", reserve_bytes=0)
    for sequence in range(5):
        archive.write(make_verdict(sequence), make_frame(sequence, (300, 400)))
    assert 1 <= archive.failures < 5
    for path in (path for path in tiny_disk.rglob("*") if path.is_file()):
        assert PART_FILE.fullmatch(path.name)
        assert cv2.imread(str(path)) is not None


def test_last_megabytes_of_a_disk_are_left_to_the_ledger(
    tiny_disk: Path, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    archive = Archive(tiny_disk / "archive", reserve_bytes=300_000)
    for sequence in range(30):
        archive.write(make_verdict(sequence), make_frame(sequence, (64, 64)))
    assert 0 < archive.failures < 30
    facts = os.statvfs(tiny_disk)
    assert facts.f_bavail * facts.f_frsize >= 280_000  # a file takes whole blocks


def _sizes(tmp_path: Path, make_verdict: MakeVerdict, make_frame: MakeFrame) -> int:
    """Bytes that one part takes."""
    Archive(tmp_path / "probe", "all").write(make_verdict(0), make_frame(0))
    return sum(path.stat().st_size for path in (tmp_path / "probe").rglob("*.*"))


def _all_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_cap_deletes_the_oldest_good_parts_first_then_the_oldest(
    tmp_path: Path, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    cap = round(4.5 * _sizes(tmp_path, make_verdict, make_frame))
    folder = tmp_path / "archive"
    archive = Archive(folder, "all", cap)
    order = [Label.DEFECT, Label.OK, Label.OK, Label.UNKNOWN, Label.DEFECT, Label.DEFECT, Label.DEFECT]
    steps = [
        {"DEFECT": {0}},
        {"DEFECT": {0}, "OK": {1}},
        {"DEFECT": {0}, "OK": {1, 2}},
        {"DEFECT": {0}, "OK": {1, 2}, "UNKNOWN": {3}},
        {"DEFECT": {0, 4}, "OK": {2}, "UNKNOWN": {3}},
        {"DEFECT": {0, 4, 5}, "UNKNOWN": {3}},
        {"DEFECT": {4, 5, 6}, "UNKNOWN": {3}},
    ]
    for sequence, (label, expected) in enumerate(zip(order, steps, strict=True)):
        archive.write(make_verdict(sequence, label), make_frame(0))
        assert kept(folder) == expected
        assert _all_bytes(folder) <= cap
    archive.write(make_verdict(7, Label.OK), make_frame(0))
    assert kept(folder) == steps[-1]  # a good part never drives out a flagged one
    assert archive.failures == 0


def test_cap_counts_what_earlier_runs_left_and_touches_nothing_else(
    tmp_path: Path, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    cap = round(3.5 * _sizes(tmp_path, make_verdict, make_frame))
    folder = tmp_path / "archive"
    first = Archive(folder, "all", cap)
    for sequence in (2, 0, 1):
        first.write(make_verdict(sequence), make_frame(0))
        _age(folder, sequence, days=sequence)  # after a clock was set back, ids no longer sort by age
    (folder / "DEFECT" / "my notes.png").write_bytes(bytes(10 * cap))
    (folder / "precious.txt").write_text("do not delete")
    second = Archive(folder, "all", cap)
    second.write(make_verdict(3), make_frame(0))
    assert (folder / "precious.txt").exists()
    (folder / "precious.txt").unlink()
    (folder / "DEFECT" / "my notes.png").unlink()  # fails if it was deleted
    assert kept(folder) == {"DEFECT": {0, 1, 3}}


def test_leftovers_of_a_killed_run_are_removed(
    tmp_path: Path, make_verdict: MakeVerdict, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    Archive(tmp_path).write(make_verdict(0), make_frame(0))
    with monkeypatch.context() as killed:
        killed.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        killed.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            Archive(tmp_path).write(make_verdict(1), make_frame(1))
    assert len(list((tmp_path / "DEFECT").iterdir())) == 3
    Archive(tmp_path)
    assert kept(tmp_path) == {"DEFECT": {0}}


def _age(folder: Path, sequence: int, days: int) -> None:
    for path in folder.rglob(f"*-{sequence:06d}*"):
        os.utime(path, (1_700_000_000 - 86400 * days,) * 2)


def test_part_larger_than_the_cap_deletes_nothing(
    tmp_path: Path, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    cap = round(1.5 * _sizes(tmp_path, make_verdict, make_frame))
    archive = Archive(tmp_path / "archive", "all", cap)
    archive.write(make_verdict(0), make_frame(0))
    archive.write(make_verdict(1), make_frame(1, (400, 400)))
    assert kept(tmp_path / "archive") == {"DEFECT": {0}}
    assert archive.failures == 1


def test_without_a_cap_memory_does_not_grow(tmp_path: Path, make_verdict: MakeVerdict, make_frame: MakeFrame) -> None:
    archive = Archive(tmp_path / "archive", "all")
    archive.write(make_verdict(0), make_frame(0))
    assert not archive._ok
    assert not archive._flagged
