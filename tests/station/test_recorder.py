"""The recorder: nothing that it accepted gets lost in silence."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.errors import OutputError
from segdec_edge.outputs.archive import Archive
from segdec_edge.outputs.ledger import Ledger, read_rows
from segdec_edge.station.recorder import Recorder
from segdec_edge.types import Frame, Label


class SlowLedger(Ledger):
    """Takes its time, as an SD card does; keeps the size of each batch."""

    pause_s = 0.05

    def __init__(self, path: Path, run_id: str) -> None:
        super().__init__(path, run_id)
        self.batches: list[int] = []

    def write_all(self, verdicts) -> None:
        time.sleep(self.pause_s)
        self.batches.append(len(verdicts))
        super().write_all(verdicts)


def filled(ledger: Ledger, pages: int = 12) -> Ledger:
    ledger._database.execute(f"PRAGMA max_page_count = {pages}")
    return ledger


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


def test_leaving_it_waits_for_every_row(tmp_path: Path, archive: Archive, make_verdict) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(SlowLedger(path, "run")) as ledger:
        with Recorder(ledger, archive, capacity=8) as recorder:
            for sequence in range(40):
                recorder.put(make_verdict(sequence), None)
        assert [row.sequence for row in read_rows(path)] == list(range(40))
        assert max(ledger.batches) > 1  # what waits goes in one transaction
        assert max(ledger.batches) <= 8


def test_full_queue_holds_up_instead_of_dropping(tmp_path: Path, archive: Archive, make_verdict) -> None:
    with closing(SlowLedger(tmp_path / "ledger.sqlite", "run")) as ledger, Recorder(ledger, archive, 2) as recorder:
        started = time.monotonic()
        for sequence in range(12):
            recorder.put(make_verdict(sequence), None)
            assert len(recorder._waiting) <= 2
        assert time.monotonic() - started > 4 * ledger.pause_s


def test_putting_does_not_wait_for_the_disk(tmp_path: Path, archive: Archive, make_verdict) -> None:
    with closing(SlowLedger(tmp_path / "ledger.sqlite", "run")) as ledger, Recorder(ledger, archive) as recorder:
        ledger.pause_s = 0.3
        started = time.monotonic()
        for sequence in range(10):
            recorder.put(make_verdict(sequence), None)
        assert time.monotonic() - started < ledger.pause_s


def test_only_pictures_that_will_be_kept_wait_in_memory(tmp_path: Path, archive: Archive, make_verdict) -> None:
    frame = Frame(np.zeros((8, 8), np.uint8), 0, 1, 1, "x")
    recorder = Recorder(None, archive)  # type: ignore[arg-type]
    for sequence, label in enumerate(Label):
        recorder.put(make_verdict(sequence, label), frame)
    assert [kept is frame for _, kept in recorder._waiting] == [False, True, True]


def test_full_ledger_ends_with_every_unrecorded_part_named(
    tmp_path: Path, archive: Archive, make_verdict, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ledger.sqlite"
    put = 0
    told = pytest.raises(OutputError, match=r"parts were decided but not recorded.*disk is full")
    with closing(filled(Ledger(path, "run"))) as ledger, told, Recorder(ledger, archive) as recorder:
        for put in range(10_000):
            recorder.put(make_verdict(put, Label.DEFECT), None)
    recorded = [row.part_id for row in read_rows(path)]
    named = [record.args[0].split()[1] for record in caplog.records if "not recorded" in record.msg]
    assert 0 < put < 9_999
    assert recorded
    assert recorded + named == [f"run-{sequence:06d}" for sequence in range(put + 1)]
    assert "DEFECT, score 0.250000, 0.png: because" not in caplog.text
    assert f"run-{put:06d} DEFECT, score 0.250000, {put}.png: because" in caplog.text


def test_full_ledger_frees_whoever_waits_for_room(tmp_path: Path, archive: Archive, make_verdict) -> None:
    class Failing(SlowLedger):
        def write_all(self, verdicts) -> None:
            time.sleep(self.pause_s)
            raise OutputError("the disk is full")

    started = time.monotonic()
    told = pytest.raises(OutputError, match="3 parts were decided")
    with closing(Failing(tmp_path / "ledger.sqlite", "run")) as ledger, told, Recorder(ledger, archive, 2) as recorder:
        for sequence in range(10):
            recorder.put(make_verdict(sequence), None)
    assert time.monotonic() - started < 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_bug_in_the_writer_is_no_silence_either(tmp_path: Path, archive: Archive, make_verdict) -> None:
    class Broken(Ledger):
        def write_all(self, verdicts) -> None:
            raise ZeroDivisionError

    told = pytest.raises(OutputError, match="a fault of its own")
    with closing(Broken(tmp_path / "ledger.sqlite", "run")) as ledger, told, Recorder(ledger, archive, 1) as recorder:
        for sequence in range(5):
            recorder.put(make_verdict(sequence), None)


def test_failing_archive_loses_no_row(tmp_path: Path, make_verdict) -> None:
    (tmp_path / "archive").write_text("a file in the folder's place")
    frame = Frame(np.zeros((8, 8), np.uint8), 0, 1, 1, "x")
    path = tmp_path / "ledger.sqlite"
    with closing(Ledger(path, "run")) as ledger, Recorder(ledger, Archive(tmp_path / "archive")) as recorder:
        for sequence in range(30):
            recorder.put(make_verdict(sequence, Label.DEFECT), frame)
    assert recorder.archive_failures == 30
    assert len(list(read_rows(path))) == 30


def test_row_is_durable_before_its_picture(tmp_path: Path, make_verdict) -> None:
    path = tmp_path / "ledger.sqlite"
    seen: list[int] = []

    class Looking(Archive):
        def write(self, verdict, frame) -> None:
            seen.append(sum(row.part_id == verdict.part_id for row in read_rows(path)))

    with closing(Ledger(path, "run")) as ledger, Recorder(ledger, Looking(tmp_path / "archive")) as recorder:
        for sequence in range(5):
            recorder.put(make_verdict(sequence, Label.DEFECT), None)
    assert seen == [1] * 5


def test_its_thread_ends(tmp_path: Path, archive: Archive) -> None:
    with closing(Ledger(tmp_path / "ledger.sqlite", "run")) as ledger, Recorder(ledger, archive):
        assert "recorder" in {thread.name for thread in threading.enumerate()}
    assert "recorder" not in {thread.name for thread in threading.enumerate()}
