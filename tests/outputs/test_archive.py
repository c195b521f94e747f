"""The archive: what it keeps, what it deletes, and that it never stops anyone."""

from __future__ import annotations

import gc
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from segdec_edge.config.archive import ArchiveConfig
from segdec_edge.config.load import check, parse_toml
from segdec_edge.outputs import archive as archive_module
from segdec_edge.outputs import shelf as shelf_module
from segdec_edge.outputs.archive import PART_FILE, Archive, Limit, open_archive
from segdec_edge.outputs.shelf import ORDER
from segdec_edge.pictures import read_picture
from segdec_edge.types import Frame, Label, Region, Verdict

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
    assert len(list(folder.iterdir())) == 2 + 1  # and the list


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


def test_archive_that_cannot_be_written_counts_and_says_why(
    tmp_path: Path, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    (tmp_path / "archive").write_text("a file, not a folder")
    for cap in (None, 10**6):
        archive = Archive(tmp_path / "archive", max_bytes=cap)
        for sequence in range(3):
            archive.write(make_verdict(sequence), make_frame(sequence))
        assert archive.failures == 3
        assert "archive" in (archive.problem or "")


def test_picture_that_cannot_be_encoded_is_counted(tmp_path: Path, make_verdict: MakeVerdict) -> None:
    archive = Archive(tmp_path)
    archive.write(make_verdict(), Frame(np.zeros((0, 0), np.uint8), 0, 1, 1, "x"))
    assert archive.failures == 1


def test_full_disk_is_counted_and_leaves_no_half_file(
    small_disk: Path, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    archive = Archive(small_disk / "archive", reserve_bytes=-(10**9))  # so that the disk itself says no
    for sequence in range(12):
        archive.write(make_verdict(sequence), make_frame(sequence, (300, 400)))
    assert 1 <= archive.failures < 12
    assert archive.total_bytes == _all_bytes(small_disk)
    for path in (path for path in small_disk.rglob("*.*") if path.is_file() and path.name != ORDER):
        assert PART_FILE.fullmatch(path.name)
        assert cv2.imread(str(path)) is not None


def test_last_megabytes_of_a_disk_are_left_to_the_ledger(
    small_disk: Path, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    archive = Archive(small_disk / "archive", reserve_bytes=900_000)
    for sequence in range(30):
        archive.write(make_verdict(sequence), make_frame(sequence, (64, 64)))
        facts = os.statvfs(small_disk)
        assert facts.f_bavail * facts.f_frsize >= 880_000  # a file takes whole blocks
    assert archive.failures == 0
    newest = max(kept(small_disk)["DEFECT"])
    assert kept(small_disk) == {"DEFECT": set(range(newest + 1 - len(kept(small_disk)["DEFECT"]), 30))}


def test_a_disk_full_of_better_pictures_is_no_failure(
    small_disk: Path, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    archive = Archive(small_disk / "archive", "all", reserve_bytes=900_000)
    for sequence in range(30):
        archive.write(make_verdict(sequence), make_frame(sequence, (64, 64)))
    before = kept(small_disk)
    for sequence in range(30, 33):
        archive.write(make_verdict(sequence, Label.OK), make_frame(sequence, (64, 64)))
    assert archive.failures == 0
    assert kept(small_disk) == before


def test_disk_filled_by_others_stops_pictures_until_there_is_room(
    small_disk: Path, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    archive = Archive(small_disk / "archive", reserve_bytes=100_000)
    for outage in range(2):
        (small_disk / "filler").write_bytes(bytes(980_000))
        for sequence in range(outage * 10, outage * 10 + 5):
            archive.write(make_verdict(sequence), make_frame(sequence))
        assert archive.failures == (outage + 1) * 5
        assert "free, kept for the ledger" in (archive.problem or "")
        (small_disk / "filler").unlink()
        archive.write(make_verdict(outage * 10 + 5), make_frame(5))
        assert kept(small_disk / "archive") == {"DEFECT": {outage * 10 + 5} | ({5} if outage == 0 else set())}
        assert archive.problem is None


@pytest.fixture
def part_bytes(tmp_path: Path, make_verdict: MakeVerdict, make_frame: MakeFrame) -> int:
    """What one part takes, whose frame is make_frame(0)."""
    Archive(tmp_path / "probe", "all").write(make_verdict(0), make_frame(0))
    return _all_bytes(tmp_path / "probe")


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


def _all_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != ORDER)


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
        assert _all_bytes(folder) <= cap
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
    assert second.total_bytes == _all_bytes(folder)
    for sequence in range(4, 7):
        second.write(make_verdict(sequence), make_frame(0))
    assert kept(folder) == {"DEFECT": {3, 4, 5, 6}}
    assert Archive(folder, "all", cap).total_bytes == _all_bytes(folder)


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


def test_review_copy_with_what_the_station_thought(
    tmp_path: Path, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    archive, frame = Archive(tmp_path), make_frame()
    region = Region((1, 2, 3, 4), ((1, 2), (4, 2), (4, 6)), 10.5, 0.9)
    archive.write(make_verdict(0, Label.OK), frame)
    archive.write(make_verdict(1, Label.OK, review=True, regions=(region,), given_id="7"), frame)
    archive.write(make_verdict(2, Label.DEFECT, review=True), frame)
    assert kept(tmp_path) == {"REVIEW": {1, 2}, "DEFECT": {2}}
    part_id = make_verdict(1).part_id
    assert np.array_equal(read_picture(tmp_path / "REVIEW" / f"{part_id}.png"), frame.pixels)
    facts = json.loads((tmp_path / "REVIEW" / f"{part_id}.json").read_text())
    assert facts["part_id"] == part_id
    assert (facts["verdict"], facts["score"], facts["threshold"], facts["given_id"]) == ("OK", 0.1 + 0.2, 0.25, "7")
    assert facts["regions"] == [
        {"box_xywh": [1, 2, 3, 4], "polygon_xy": [[1, 2], [4, 2], [4, 6]], "area_px": 10.5, "peak": 0.9}
    ]
    none = Archive(tmp_path / "none", "none")
    none.write(make_verdict(1, Label.OK, review=True), frame)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("part_id", ["../escaped", "/tmp/escaped", "a/b", "", ".hidden", "x" * 300, "a\nb", "ä"])
def test_part_id_that_makes_no_file_name_is_no_file(
    tmp_path: Path, part_id: str, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    archive = Archive(tmp_path / "archive")
    archive.write(make_verdict(0, part_id=part_id), make_frame())
    assert archive.failures == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


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
        assert archive.total_bytes == _all_bytes(folder)
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
    assert again.total_bytes == _all_bytes(folder)
    for sequence in range(3, 6):
        again.write(make_verdict(sequence), make_frame(0))
    assert kept(folder) == {"DEFECT": {3, 4, 5}}
    shutil.rmtree(folder / "DEFECT")
    again.write(make_verdict(6), make_frame(0))
    assert kept(folder) == {"DEFECT": {6}}


def test_archive_of_a_stations_file(tmp_path: Path, make_verdict: MakeVerdict, make_frame: MakeFrame) -> None:
    text = """
        [archive]
        keep = "all"
        max_megabytes = 1
        min_free_megabytes = 10
        ok = {max_megabytes = 0.001}
        [archive.defect]
        max_days = 365
    """
    config = check(ArchiveConfig, parse_toml(text, "x")["archive"], "x").model_copy(update={"path": tmp_path / "new"})
    archive = open_archive(config)
    archive.write(make_verdict(0, Label.OK), make_frame())
    archive.write(make_verdict(1), make_frame())
    assert kept(tmp_path / "new") == {"DEFECT": {1}}
    assert archive.failures == 1
    assert archive._limits["DEFECT"] == Limit(max_days=365)


def test_leftovers_of_a_killed_run_are_removed(
    tmp_path: Path, make_verdict: MakeVerdict, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    Archive(tmp_path).write(make_verdict(0), make_frame(0))
    with monkeypatch.context() as killed:
        killed.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        killed.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            Archive(tmp_path).write(make_verdict(1), make_frame(1))
    assert len(list((tmp_path / "DEFECT").iterdir())) == 3 + 2  # one part, and what became of another
    Archive(tmp_path)
    assert kept(tmp_path) == {"DEFECT": {0}}


def test_part_larger_than_the_cap_deletes_nothing(
    tmp_path: Path, part_bytes: int, make_verdict: MakeVerdict, make_frame: MakeFrame
) -> None:
    cap = round(1.5 * part_bytes)
    archive = Archive(tmp_path / "archive", "all", cap)
    archive.write(make_verdict(0), make_frame(0))
    archive.write(make_verdict(1), make_frame(1, (400, 400)))
    assert kept(tmp_path / "archive") == {"DEFECT": {0}}
    assert archive.failures == 1


def test_memory_does_not_grow_with_the_folder(tmp_path: Path, make_verdict: MakeVerdict, make_frame: MakeFrame) -> None:
    archive = Archive(tmp_path / "archive", "all", 10**9)

    def keep(numbers: range) -> int:
        for sequence in numbers:
            archive.write(make_verdict(sequence), make_frame(0))
        gc.collect()
        return len(gc.get_objects())

    before = keep(range(20))
    assert keep(range(20, 120)) - before < 50
    assert not [fd for fd in Path("/proc/self/fd").iterdir() if str(tmp_path) in os.path.realpath(fd)]
