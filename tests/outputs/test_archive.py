"""The archive: what it keeps and how, and that it never stops anyone."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from segdec_edge.config.archive import ArchiveConfig
from segdec_edge.config.load import check, parse_toml
from segdec_edge.outputs.archive import PART_FILE, Archive, Limit, open_archive
from segdec_edge.outputs.shelf import ORDER
from segdec_edge.pictures import read_picture
from segdec_edge.types import Frame, Label, Region
from tests.outputs.archived import MakeFrame, MakeVerdict, all_bytes, kept


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
    assert archive.total_bytes == all_bytes(small_disk)
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
