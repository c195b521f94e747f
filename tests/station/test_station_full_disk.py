"""A ledger, or the archive alone, on a disk of 1 MB that fills up while the station runs."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import cv2
import pytest

from segdec_edge.outputs.archive import Archive
from segdec_edge.outputs.ledger import read_rows
from segdec_edge.outputs.ledger_check import check_ledger
from segdec_edge.station import keeper, recorder
from tests.deploy.bright_parts import SIZE_HW, bright_bundle
from tests.fakes import plain_part
from tests.station.scripted import BAD, GOOD, Line, running, wait_until


def fill(path: Path) -> None:
    """Take all room of its disk."""
    with path.open("wb", buffering=0) as every, suppress(OSError):
        while every.write(bytes(4096)):
            pass


def test_on_a_full_disk_inspection_goes_on_and_every_output_is_told(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "CALM_S", 0.3)
    line = Line([[GOOD] * 600 + ["idle"]], pause_s=0.005)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(880_000))
    with running(small_disk, {"camera": line}, policy="lossless", timeout_s=60.0, queue=64) as one:
        wait_until(lambda: "ledger" in one.active(), 60.0)
        wait_until(lambda: len(one.seen.verdicts) == 600, 60.0)
        assert one.active() == {"ledger"}
        filler.unlink()
        wait_until(lambda: "ledger" not in one.active(), 60.0)
    assert not one.error
    found = check_ledger(one.path)
    assert found.is_whole and found.parts == 600
    assert [row.part_id for row in one.rows] == [verdict.part_id for verdict in one.seen.verdicts]


def test_a_disk_that_stays_full_is_one_alarm_and_the_next_time_another(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Room for some of the rows that are held is no end of it; room for all of them is."""
    monkeypatch.setattr(recorder, "RETRY_S", (0.05, 0.1))
    monkeypatch.setattr(recorder, "CALM_S", 0.3)
    line = Line([[GOOD] * 600 + ["hang"] + [GOOD] * 200 + ["idle"]], pause_s=0.002)
    filler, spare = small_disk / "filler", small_disk / "spare"
    filler.write_bytes(bytes(780_000))
    spare.write_bytes(bytes(40_000))
    with running(small_disk, {"camera": line}, policy="lossless", timeout_s=60.0, queue=64) as one:
        wait_until(lambda: "ledger" in one.active(), 60.0)
        wait_until(lambda: len(one.seen.verdicts) == 600, 60.0)
        held = one.station._recorder.waiting
        spare.unlink()
        wait_until(lambda: one.station._recorder.waiting < held)
        time.sleep(1.0)
        assert one.station._recorder.waiting and "ledger" in one.active()
        assert caplog.text.count("alarm ledger:") == 1
        filler.unlink()
        wait_until(lambda: "ledger" not in one.active(), 60.0)
        fill(filler)
        line.release.set()
        wait_until(lambda: len(one.seen.verdicts) == 800 and "ledger" in one.active(), 60.0)
        filler.unlink()
    assert not one.error
    assert check_ledger(one.path).parts == 800
    assert caplog.text.count("alarm ledger:") == caplog.text.count("alarm ledger cleared") == 2


def test_where_only_the_archive_is_full_pictures_stop_and_come_again(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "CALM_S", 0.2)
    line = Line([[GOOD, BAD] * 300], pause_s=0.005)
    archive = Archive(small_disk / "archive", "all", reserve_bytes=50_000)
    with running(tmp_path, {"camera": line}, archive=archive, policy="lossless", timeout_s=60.0, queue=64) as one:
        wait_until(lambda: archive.total_bytes > 0, 60.0)
        filler = small_disk / "filler"
        fill(filler)
        wait_until(lambda: one.active() == {"archive"}, 60.0)
        until = len(one.seen.verdicts) + 100
        wait_until(lambda: len(one.seen.verdicts) > until, 60.0)
        assert one.active() == {"archive"}
        filler.unlink()
        wait_until(lambda: not one.active(), 60.0)
    assert not one.error
    found = check_ledger(one.path)
    assert found.is_whole and found.parts == len(one.seen.verdicts)
    assert {verdict.label.value for verdict in one.seen.verdicts} == {"OK", "DEFECT"}
    (alarm,) = one.alarms.known()
    assert "free, kept for the ledger. Free some space on that disk." in alarm.message
    kept = list((small_disk / "archive").rglob("*.png"))
    assert kept and all(cv2.imread(str(path)) is not None for path in kept)
    assert 0 < one.station.summary().archive_failures < found.parts


def test_a_disk_that_stays_full_is_told_in_one_line_and_names_what_is_not_in_the_ledger(
    small_disk: Path, tmp_path: Path
) -> None:
    bright_bundle(tmp_path / "lid.bundle", None)
    (tmp_path / "pictures").mkdir()
    assert cv2.imwrite(str(tmp_path / "pictures" / "one.png"), plain_part(50, SIZE_HW))
    (tmp_path / "station.toml").write_text(
        '[station]\nbundle = "lid.bundle"\nbackend = "onnxruntime"\n'
        '[camera]\npath = "pictures"\nloop = true\n'
        f'[ledger]\npath = "{small_disk}/ledger.sqlite"\n[archive]\nkeep = "all"\npath = "{small_disk}/pictures"\n'
    )
    run = [sys.executable, "-m", "segdec_edge", "run", str(tmp_path / "station.toml")]
    with subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = []
        for text in process.stderr:
            told.append(text.rstrip())
            if "alarm ledger:" in text:
                break
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        told += [text.rstrip() for text in process.stderr]
    assert process.returncode == 1
    assert sum("alarm ledger:" in text for text in told) == 1
    assert not any("Traceback" in text for text in told)
    assert re.match(r"segdec: \d+ parts were decided but not recorded; the log names them", told[-1])
    found = check_ledger(small_disk / "ledger.sqlite")
    assert not found.damage and not found.repeated
    named = {match[1] for text in told if (match := re.search(r"decided but not recorded: part (\S+)", text))}
    rows = {row.part_id for row in read_rows(small_disk / "ledger.sqlite")}
    assert named and not named & rows
    numbers = sorted(int(part.rsplit("-", 1)[1]) for part in named | rows)
    assert numbers == list(range(len(numbers)))
