"""The archive's limits: which pictures leave, in which order, and the lists that know it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from segdec_edge.outputs import archive as archive_module
from segdec_edge.outputs import shelf as shelf_module
from segdec_edge.outputs.archive import Archive, Limit
from segdec_edge.outputs.shelf import ORDER
from segdec_edge.types import Label
from tests.outputs.archived import MakeFrame, MakeVerdict, all_bytes, kept


@pytest.fixture
def part_bytes(tmp_path: Path, make_verdict: MakeVerdict, make_frame: MakeFrame) -> int:
    """What one part takes, whose frame is make_frame(0)."""
    Archive(tmp_path / "probe", "all").write(make_verdict(0), make_frame(0))
    return all_bytes(tmp_path / "probe")


@pytest.fixture
def undated(tmp_path: Path, make_verdict: MakeVerdict, make_frame: MakeFrame) -> Path:
    """An archive's folder with three defects, 2, 0 and 1 in this order, on which neither ids nor dates agree."""
    folder = tmp_path / "archive"
    first = Archive(folder, "all")
    for sequence in (2, 0, 1):
        first.write(make_verdict(sequence), make_frame(0))
        for path in folder.rglob(f"*-{sequence:06d}*"):
            os.utime(path, (1_700_000_000 - 86_400 * sequence,) * 2)
    return folder


def test_cap_deletes_the_oldest_good_parts_first_then_the_oldest(
    tmp_path: Path, part_bytes: int, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    cap = round(4.5 * part_bytes)
    folder = tmp_path / "archive"
    archive = Archive(folder, "all", cap)
    order = [Label.DEFECT, Label.OK, Label.OK, Label.UNKNOWN, Label.DEFECT, Label.DEFECT, Label.DEFECT, Label.UNKNOWN]
    steps = [
        {"DEFECT": {0}},
        {"DEFECT": {0}, "OK": {1}},
        {"DEFECT": {0}, "OK": {1, 2}},
        {"DEFECT": {0}, "OK": {1, 2}, "UNKNOWN": {3}},
        {"DEFECT": {0, 4}, "OK": {2}, "UNKNOWN": {3}},
        {"DEFECT": {0, 4, 5}, "UNKNOWN": {3}},
        {"DEFECT": {0, 4, 5, 6}},
        {"DEFECT": {0, 4, 5, 6}},  # neither a good nor an unknown part drives out a defect
    ]
    for sequence, (label, expected) in enumerate(zip(order, steps, strict=True)):
        archive.write(make_verdict(sequence, label), make_frame(0))
        assert kept(folder) == expected
        assert all_bytes(folder) <= cap
    archive.write(make_verdict(8, Label.OK), make_frame(0))
    assert kept(folder) == steps[-1]
    archive.write(make_verdict(9, Label.DEFECT), make_frame(0))
    assert kept(folder) == {"DEFECT": {4, 5, 6, 9}}
    assert archive.failures == 0


def test_cap_counts_what_earlier_runs_left_and_touches_nothing_else(
    undated: Path, part_bytes: int, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    cap = round(3.5 * part_bytes)
    (undated / "DEFECT" / "my notes.png").write_bytes(bytes(10 * cap))
    (undated / "DEFECT" / "20260102T030405Z-0a1b2c-notes.json").write_bytes(bytes(10 * cap))
    (undated / "precious.txt").write_text("do not delete")
    Archive(undated, "all", cap).write(make_verdict(3), make_frame(0))
    for name in ("precious.txt", "DEFECT/my notes.png", "DEFECT/20260102T030405Z-0a1b2c-notes.json"):
        (undated / name).unlink()  # fails if it was deleted
    assert kept(undated) == {"DEFECT": {0, 1, 3}}


def test_archive_of_an_older_version_leaves_by_date(
    undated: Path, part_bytes: int, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    (undated / "DEFECT" / ORDER).unlink()
    Archive(undated, "all", round(2.5 * part_bytes)).write(make_verdict(3), make_frame(0))
    assert kept(undated) == {"DEFECT": {0, 3}}  # 2 had the oldest date, then 1


def test_order_holds_over_runs_cameras_and_clocks(
    tmp_path: Path, part_bytes: int, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    cap = round(4.5 * part_bytes)
    folder = tmp_path / "archive"
    ids = [
        "20260102T030405Z-0a1b2c-fast-000900",
        "20260102T030405Z-0a1b2c-slow-000001",
        "19700101T000007Z-ffffff-fast-000000",  # the board was restarted and had lost its clock
        "19700101T000007Z-ffffff-fast-000001",
        "20260102T040000Z-000000-000000",
        "20260102T040000Z-000000-000001",
    ]
    for number, part_id in enumerate(ids):  # a new process for each
        Archive(folder, "all", cap).write(make_verdict(0, part_id=part_id), make_frame(0))
        left = sorted(path.stem for path in (folder / "DEFECT").glob("*.png"))
        assert left == sorted(ids[max(0, number - 3) : number + 1])


def test_list_torn_by_a_power_cut_is_mended(
    tmp_path: Path, part_bytes: int, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    cap = round(4.5 * part_bytes)
    folder = tmp_path / "archive"
    first = Archive(folder, "all", cap)
    for sequence in range(4):
        first.write(make_verdict(sequence), make_frame(0))
    order = folder / "DEFECT" / ORDER
    order.write_bytes(order.read_bytes()[:-50] + b"\0\0")  # of the last two lines nothing reached the disk
    second = Archive(folder, "all", cap)
    assert second.total_bytes == all_bytes(folder)
    for sequence in range(4, 7):
        second.write(make_verdict(sequence), make_frame(0))
    assert kept(folder) == {"DEFECT": {3, 4, 5, 6}}
    assert Archive(folder, "all", cap).total_bytes == all_bytes(folder)


def test_limits_by_class(tmp_path: Path, part_bytes: int, make_verdict: MakeVerdict, make_frame: MakeFrame) -> None:
    folder = tmp_path / "archive"
    archive = Archive(folder, "all", limits={"OK": Limit(max_bytes=round(2.5 * part_bytes))})
    for sequence in range(6):
        archive.write(make_verdict(sequence, Label.OK), make_frame(0))
        archive.write(make_verdict(10 + sequence), make_frame(0))
    assert kept(folder) == {"OK": {4, 5}, "DEFECT": set(range(10, 16))}
    assert archive.failures == 0
    archive.write(make_verdict(20, Label.OK), make_frame(1, (400, 400)))
    assert archive.failures == 1
    assert kept(folder)["OK"] == {4, 5}


def test_limit_that_was_lowered_deletes_little_by_little(
    tmp_path: Path, part_bytes: int, make_verdict: MakeVerdict, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "MOST_DROPPED", 3)
    folder = tmp_path / "archive"
    first = Archive(folder)
    for sequence in range(10):
        first.write(make_verdict(sequence), make_frame(0))
    second = Archive(folder, max_bytes=round(2.5 * part_bytes))
    left = []
    for sequence in range(10, 16):
        second.write(make_verdict(sequence), make_frame(0))
        left.append(len(kept(folder)["DEFECT"]))
    assert left == [8, 6, 4, 2, 2, 2]
    assert kept(folder)["DEFECT"] == {14, 15}


def test_age_by_class(
    tmp_path: Path, make_verdict: MakeVerdict, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "TEND_S", 0.0)
    archive = Archive(tmp_path, "all", limits={"OK": Limit(max_days=7)})
    now = time.time()
    for sequence in range(4):
        for label, number in ((Label.OK, sequence), (Label.DEFECT, 10 + sequence)):
            archive.write(make_verdict(number, label), make_frame(0))
            for path in tmp_path.rglob(f"*-{number:06d}*"):
                os.utime(path, (now - 86_400 * (8.5 - sequence),) * 2)
    archive.tend()
    assert kept(tmp_path) == {"OK": {2, 3}, "DEFECT": {10, 11, 12, 13}}


def test_age_where_the_clock_is_set_back_an_hour(
    tmp_path: Path, make_verdict: MakeVerdict, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "TEND_S", 0.0)
    start, clock = 1_790_000_000.0, [1_790_000_000.0]
    monkeypatch.setattr(archive_module.time, "time", lambda: clock[0])
    archive = Archive(tmp_path, "all", limits={"DEFECT": Limit(max_days=7)})
    for sequence, hour in enumerate((0, -1, 0)):
        clock[0] = start + hour * 3600
        archive.write(make_verdict(sequence), make_frame(0))
        for path in tmp_path.rglob(f"*-{sequence:06d}*"):
            os.utime(path, (clock[0], clock[0]))
    for late_s, left in ((-1800, {0, 1, 2}), (-1, {0, 1, 2}), (1, set())):  # none too early, in the order they came
        clock[0] = start + 7 * 86_400 + late_s
        archive.tend()
        assert kept(tmp_path).get("DEFECT", set()) == left


def test_picture_taken_before_the_clock_was_set_counts_from_then(
    tmp_path: Path, make_verdict: MakeVerdict, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "TEND_S", 0.0)
    clock = [100.0]
    monkeypatch.setattr(archive_module.time, "time", lambda: clock[0])
    archive = Archive(tmp_path, "all", limits={"DEFECT": Limit(max_days=7)})
    archive.write(make_verdict(0), make_frame(0))
    for path in tmp_path.rglob("*-000000*"):
        os.utime(path, (100, 100))
    archive.tend()
    assert kept(tmp_path) == {"DEFECT": {0}}
    for days, left in ((0.0, {"DEFECT": {0}}), (6.9, {"DEFECT": {0}}), (7.1, {})):
        clock[0] = 1_790_000_000 + days * 86_400
        archive.tend()
        assert kept(tmp_path) == left


def test_list_stays_short(
    tmp_path: Path, part_bytes: int, make_verdict: MakeVerdict, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf_module, "_STALE_BYTES", 200)
    cap = round(3.5 * part_bytes)
    folder = tmp_path / "archive"
    archive = Archive(folder, "all", cap)
    longest = 0
    for sequence in range(60):
        archive.write(make_verdict(sequence), make_frame(0))
        longest = max(longest, (folder / "DEFECT" / ORDER).stat().st_size)
        assert archive.total_bytes == all_bytes(folder)
    assert kept(folder) == {"DEFECT": {57, 58, 59}}
    assert longest < 600


def test_pictures_deleted_by_hand_do_not_confuse_it(
    tmp_path: Path, part_bytes: int, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    cap = round(3.5 * part_bytes)
    folder = tmp_path / "archive"
    archive = Archive(folder, "all", cap)
    for sequence in range(3):
        archive.write(make_verdict(sequence), make_frame(0))
    for path in folder.rglob("*-000001*"):
        path.unlink()
    again = Archive(folder, "all", cap)
    assert again.total_bytes == all_bytes(folder)
    for sequence in range(3, 6):
        again.write(make_verdict(sequence), make_frame(0))
    assert kept(folder) == {"DEFECT": {3, 4, 5}}
    shutil.rmtree(folder / "DEFECT")
    again.write(make_verdict(6), make_frame(0))
    assert kept(folder) == {"DEFECT": {6}}


def test_part_larger_than_the_cap_deletes_nothing(
    tmp_path: Path, part_bytes: int, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    cap = round(1.5 * part_bytes)
    archive = Archive(tmp_path / "archive", "all", cap)
    archive.write(make_verdict(0), make_frame(0))
    archive.write(make_verdict(1), make_frame(1, (400, 400)))
    assert kept(tmp_path / "archive") == {"DEFECT": {0}}
    assert archive.failures == 1
