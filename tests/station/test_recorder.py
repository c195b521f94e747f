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
from segdec_edge.station import recorder as module
from segdec_edge.station.alarms import Alarms
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


def wait_until(holds, within_s: float = 10.0) -> None:
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.002)


def filled(ledger: Ledger, pages: int = 12) -> Ledger:
    ledger._database.execute(f"PRAGMA max_page_count = {pages}")
    return ledger


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


def test_leaving_it_waits_for_every_row(tmp_path: Path, archive: Archive, make_verdict) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(SlowLedger(path, "run")) as ledger:
        with Recorder(ledger, archive) as recorder:
            for sequence in range(40):
                recorder.put(make_verdict(sequence), None)
        assert [row.sequence for row in read_rows(path)] == list(range(40))
        assert max(ledger.batches) > 1  # what waits goes in one transaction
        assert recorder.recorded == 40


def test_source_that_can_wait_is_held_up_by_a_slow_ledger(tmp_path: Path, archive: Archive, make_verdict) -> None:
    with (
        closing(SlowLedger(tmp_path / "ledger.sqlite", "run")) as ledger,
        Recorder(ledger, archive, rows=2) as recorder,
    ):
        started = time.monotonic()
        for sequence in range(12):
            while not recorder.wait_for_room(0.01):
                pass
            recorder.put(make_verdict(sequence), None)
            assert recorder.waiting <= 2
        assert time.monotonic() - started > 4 * ledger.pause_s


def test_source_that_can_wait_waits_for_pictures_too(tmp_path: Path, make_verdict) -> None:
    class SlowArchive(Archive):
        def write(self, verdict, frame) -> None:
            time.sleep(0.02)

    frame = Frame(np.zeros((8, 8), np.uint8), 0, 1, 1, "x")
    slow = SlowArchive(tmp_path / "archive")
    with closing(Ledger(tmp_path / "ledger.sqlite", "run")) as ledger, Recorder(ledger, slow, 4) as recorder:
        assert not recorder.wait_for_room(0.0, pending=lambda: 3)  # each may bring a picture
        for sequence in range(10):
            while not recorder.wait_for_room(1.0):
                pass
            recorder.put(make_verdict(sequence, Label.DEFECT), frame)
    assert recorder.archive_failures == 0


def test_putting_does_not_wait_for_the_disk(tmp_path: Path, archive: Archive, make_verdict) -> None:
    with closing(SlowLedger(tmp_path / "ledger.sqlite", "run")) as ledger, Recorder(ledger, archive) as recorder:
        ledger.pause_s = 0.3
        started = time.monotonic()
        for sequence in range(10):
            recorder.put(make_verdict(sequence), None)
        assert time.monotonic() - started < ledger.pause_s


def test_only_pictures_that_will_be_kept_wait_and_no_more_than_fit(
    tmp_path: Path, archive: Archive, make_verdict
) -> None:
    frame = Frame(np.zeros((8, 8), np.uint8), 0, 1, 1, "x")
    recorder = Recorder(None, archive, 2)  # type: ignore[arg-type]
    for sequence, label in enumerate([*Label, Label.DEFECT, Label.DEFECT]):
        recorder.put(make_verdict(sequence, label), frame)
    assert [kept is frame for _, kept, _ in recorder._waiting] == [False, True, True, False, False]
    assert recorder.archive_failures == 2


@pytest.mark.parametrize("stops", [False, True])
def test_full_ledger_ends_with_every_unrecorded_part_named(
    tmp_path: Path, archive: Archive, make_verdict, caplog: pytest.LogCaptureFixture, stops: bool
) -> None:
    path = tmp_path / "ledger.sqlite"
    told = pytest.raises(OutputError, match=r"parts were decided but not recorded.*disk is full")
    with (
        closing(filled(Ledger(path, "run"))) as ledger,
        told,
        Recorder(ledger, archive, stops=stops, held=200) as recorder,
    ):
        for sequence in range(400):
            recorder.put(make_verdict(sequence, Label.DEFECT), None)
            time.sleep(0.001)
        assert recorder.must_stop == stops
        assert recorder.failure is not None
        assert recorder.lost > 0
    recorded = [row.part_id for row in read_rows(path)]
    named = [record.args[0].split()[1] for record in caplog.records if "not recorded: %s" in record.msg]
    assert recorded
    assert sorted(recorded + named) == [f"run-{sequence:06d}" for sequence in range(400)]
    assert "run-000399 DEFECT, score 0.250000, 399.png: because" in caplog.text
    assert caplog.text.count("alarm ledger:") == 1


class Broken(Ledger):
    """Fails while `error` is set."""

    error: Exception | None = None

    def write_all(self, verdicts) -> None:
        if self.error is not None:
            raise self.error
        super().write_all(verdicts)


@pytest.mark.parametrize("error", [OutputError("the disk is full"), ZeroDivisionError("bug")])
def test_rows_are_held_and_written_once_the_ledger_takes_them_again(
    tmp_path: Path, archive: Archive, make_verdict, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(module, "RETRY_S", (0.02, 0.05))
    monkeypatch.setattr(module, "CALM_S", 0.1)
    path, alarms = tmp_path / "ledger.sqlite", Alarms()
    with closing(Broken(path, "run")) as ledger, Recorder(ledger, archive, 2, alarms=alarms) as recorder:
        ledger.error = error
        for sequence in range(10):
            recorder.put(make_verdict(sequence, Label.DEFECT, heatmap=np.zeros((4, 4), np.float32)), None)
        wait_until(lambda: recorder.failure is not None)
        assert [alarm.name for alarm in alarms.active()] == ["ledger"]
        assert recorder.wait_for_room(0.1)  # what fails holds up nobody
        ledger.error = None
        wait_until(lambda: recorder.recorded == 10)
        wait_until(lambda: not alarms.active())  # with nothing more to record
        assert recorder.failure is None
    assert [row.sequence for row in read_rows(path)] == list(range(10))


class Tight(Broken):
    """Takes rows and refuses them in turns, as a disk on which some room is made again and again."""

    takes = False

    def write_all(self, verdicts) -> None:
        self.takes = not self.takes
        if not self.takes:
            raise OutputError("the disk is full")
        super().write_all(verdicts)


def test_a_disk_that_takes_some_rows_and_not_the_next_is_one_alarm(
    tmp_path: Path, archive: Archive, make_verdict, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RETRY_S", (0.01, 0.01))
    alarms = Alarms()
    with closing(Tight(tmp_path / "ledger.sqlite", "run")) as ledger, Recorder(ledger, archive, alarms=alarms) as one:
        for sequence in range(30):  # none is ever held for long: each is written at the second try
            one.put(make_verdict(sequence), None)
            wait_until(lambda: one.waiting == 0)
        assert [alarm.name for alarm in alarms.active()] == ["ledger"]
    assert one.recorded == 30
    assert not alarms.active()  # told also where the station ends before it was calm for long
    assert caplog.text.count("alarm ledger:") == caplog.text.count("alarm ledger cleared") == 1


def test_an_alarm_lasts_until_all_that_was_held_is_written(
    tmp_path: Path, archive: Archive, make_verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", (0.01, 0.01))
    monkeypatch.setattr(module, "CALM_S", 0.0)
    monkeypatch.setattr(module, "BATCH", 1)
    alarms, waiting = Alarms(), []
    with closing(Broken(tmp_path / "ledger.sqlite", "run")) as ledger, Recorder(ledger, archive, alarms=alarms) as one:
        alarms.listen(lambda alarm: waiting.append((alarm.active, one.waiting)))
        for _ in range(2):  # a new one each time: it had recovered
            ledger.error = OutputError("the disk is full")
            for sequence in range(5):
                one.put(make_verdict(one.recorded + sequence), None)
            wait_until(lambda: one.failure is not None)
            ledger.error = None
            wait_until(lambda: not alarms.active())
    assert [active for active, _ in waiting] == [True, False] * 2
    assert [left for active, left in waiting if not active] == [0, 0]


def test_the_last_room_of_a_disk_is_used_by_fewer_rows_at_once(
    tmp_path: Path, archive: Archive, make_verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Narrow(Ledger):
        def write_all(self, verdicts) -> None:
            if len(verdicts) > 3:
                raise OutputError("the disk is full")
            super().write_all(verdicts)

    monkeypatch.setattr(module, "RETRY_S", (0.01, 0.01))
    monkeypatch.setattr(module, "BATCH", 32)
    path = tmp_path / "ledger.sqlite"
    with closing(Narrow(path, "run")) as ledger, Recorder(ledger, archive) as recorder:
        for sequence in range(64):
            recorder.put(make_verdict(sequence), None)
        wait_until(lambda: recorder.recorded == 64)
    assert [row.sequence for row in read_rows(path)] == list(range(64))


def test_pictures_stop_first(tmp_path: Path, archive: Archive, make_verdict) -> None:
    frame = Frame(np.zeros((8, 8), np.uint8), 0, 1, 1, "x")
    told = pytest.raises(OutputError, match="the disk is full")
    with closing(Broken(tmp_path / "ledger.sqlite", "run")) as ledger, told, Recorder(ledger, archive) as recorder:
        ledger.error = OutputError("the disk is full")
        recorder.put(make_verdict(0, Label.DEFECT), frame)
        wait_until(lambda: recorder.failure is not None)
        recorder.put(make_verdict(1, Label.DEFECT), frame)
        assert all(kept is None for _, kept, _ in recorder._waiting)
    assert recorder.archive_failures == 2
    assert not list(tmp_path.glob("archive/*/*"))


def test_bug_in_the_ledger_is_no_silence_either(tmp_path: Path, archive: Archive, make_verdict) -> None:
    told = pytest.raises(OutputError, match="a fault of its own")
    with closing(Broken(tmp_path / "ledger.sqlite", "run")) as ledger, told, Recorder(ledger, archive, 1) as recorder:
        ledger.error = ZeroDivisionError()
        for sequence in range(5):
            recorder.put(make_verdict(sequence), None)


def test_failing_archive_loses_no_row(tmp_path: Path, make_verdict) -> None:
    (tmp_path / "archive").write_text("a file in the folder's place")
    frame = Frame(np.zeros((8, 8), np.uint8), 0, 1, 1, "x")
    path = tmp_path / "ledger.sqlite"
    with closing(Ledger(path, "run")) as ledger, Recorder(ledger, Archive(tmp_path / "archive"), 64) as recorder:
        for sequence in range(30):
            recorder.put(make_verdict(sequence, Label.DEFECT), frame)
    assert recorder.archive_failures == 30
    assert len(list(read_rows(path))) == 30


def test_row_is_durable_before_its_picture(tmp_path: Path, make_verdict) -> None:
    path = tmp_path / "ledger.sqlite"
    frame = Frame(np.zeros((8, 8), np.uint8), 0, 1, 1, "x")
    seen: list[int] = []

    class Looking(Archive):
        def write(self, verdict, frame) -> None:
            seen.append(sum(row.part_id == verdict.part_id for row in read_rows(path)))

    with closing(Ledger(path, "run")) as ledger, Recorder(ledger, Looking(tmp_path / "archive")) as recorder:
        for sequence in range(5):
            recorder.put(make_verdict(sequence, Label.DEFECT), frame)
    assert seen == [1] * 5


def test_its_thread_ends(tmp_path: Path, archive: Archive) -> None:
    with closing(Ledger(tmp_path / "ledger.sqlite", "run")) as ledger, Recorder(ledger, archive):
        assert "recorder" in {thread.name for thread in threading.enumerate()}
    assert "recorder" not in {thread.name for thread in threading.enumerate()}
