"""How a station ends: by Ctrl-C, by SIGTERM, by kill, by a full disk. Real processes, real signals."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

import segdec_edge
from segdec_edge.errors import OutputError
from segdec_edge.outputs.archive import PART_FILE
from segdec_edge.outputs.ledger import Row, read_rows
from segdec_edge.outputs.ledger_check import check_ledger
from segdec_edge.station.stop import Stop
from tests.deploy.bright_parts import bright_bundle

CHILD = Path(__file__).with_name("station_child.py")
LIMIT_S = 60


@contextmanager
def child(pictures: Path, base: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(CHILD), str(pictures), str(base), *options]
    env = {**os.environ, "PYTHONPATH": str(Path(segdec_edge.__file__).parents[1])}
    with (base / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env)
        watchdog = threading.Timer(LIMIT_S, process.kill)
        watchdog.start()
        with process:
            yield process
        watchdog.cancel()


def acknowledged(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(count)]


def the_rest(process: subprocess.Popen[str]) -> list[str]:
    """The whole lines until the end; not communicate(), which skips what readline() has buffered."""
    assert process.stdout is not None
    return [line.strip() for line in process.stdout.readlines() if line.endswith("\n")]


def rows_of(base: Path) -> list[Row]:
    return list(read_rows(base / "ledger.sqlite"))


def recorded(base: Path) -> int:
    """How many rows there are, also while the station makes its ledger."""
    try:
        return len(rows_of(base))
    except OutputError as error:
        assert "no such ledger" in str(error) or "nothing was recorded yet" in str(error)
        return 0


@pytest.mark.parametrize(
    ("signals", "options"),
    [
        ([signal.SIGTERM], ["--rate", "40"]),
        ([signal.SIGINT], ["--rate", "40"]),
        ([signal.SIGINT], ["--inference-s", "0.05"]),
        ([signal.SIGTERM], ["--rate", "200", "--ledger-s", "0.1"]),
        ([signal.SIGINT, signal.SIGINT, signal.SIGTERM], ["--ledger-s", "0.2"]),
    ],
)
def test_signal_ends_it_with_every_decided_part_recorded(
    pictures: Path, tmp_path: Path, signals: list[signal.Signals], options: list[str]
) -> None:
    with child(pictures, tmp_path, *options) as process:
        seen = acknowledged(process, 7)
        for number in signals:
            process.send_signal(number)
            time.sleep(0.03)
        *more, last = the_rest(process)
    assert process.returncode == 0, (tmp_path / "log").read_text()
    assert not list(tmp_path.glob("*-wal"))  # closed in order; looked at before a reader makes one
    rows = rows_of(tmp_path)
    assert last == f"parts {len(rows)}"
    assert [row.part_id for row in rows] == seen + more
    assert [row.sequence for row in rows] == list(range(len(rows)))
    flagged = {row.part_id for row in rows if row.verdict != "OK"}
    files = [path for path in (tmp_path / "archive").rglob("*.*") if path.suffix in (".png", ".jpg")]
    assert {PART_FILE.fullmatch(path.name)["part_id"] for path in files} == flagged  # type: ignore[index]
    assert len(files) == 2 * len(flagged)


def test_kill_leaves_a_ledger_without_a_gap(pictures: Path, tmp_path: Path) -> None:
    for attempt in range(2):
        with child(pictures, tmp_path) as process:
            seen = acknowledged(process, 10 + 23 * attempt)
            process.kill()
            seen += the_rest(process)
        run_id = seen[0].rsplit("-", 1)[0]
        rows = [row for row in rows_of(tmp_path) if row.run_id == run_id]
        assert [row.sequence for row in rows] == list(range(len(rows)))
        assert [row.part_id for row in rows][: len(seen)] == seen


@pytest.mark.parametrize("goes_on", [True, False])
def test_ledger_that_cannot_grow_leaves_every_part_accounted_for(pictures: Path, tmp_path: Path, goes_on: bool) -> None:
    options = ["--file-limit", "60000", "--rate", "300"] + ([] if goes_on else ["--stop-on-ledger-failure"])
    with child(pictures, tmp_path, *options) as process:
        if goes_on:
            log = tmp_path / "log"
            while "alarm ledger" not in log.read_text():
                time.sleep(0.05)
            time.sleep(0.5)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
        recorded = the_rest(process)
    err = (tmp_path / "log").read_text()
    assert process.returncode == 1
    assert "parts were decided but not recorded" in err
    assert "Traceback" not in err
    named = [
        line.split("not recorded: part ")[1].split()[0] for line in err.splitlines() if "not recorded: part" in line
    ]
    assert [row.part_id for row in rows_of(tmp_path)] == recorded
    together = recorded + named
    assert [int(part_id.rsplit("-", 1)[1]) for part_id in together] == list(range(len(together)))
    assert len(named) > (20 if goes_on else 0)
    assert err.count("alarm ledger:") == 1


@contextmanager
def segdec_run(
    folder: Path, backend: str, *before: str, pipe_bytes: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The real command on a real runtime, once it has recorded 10 parts. pipe_bytes: what its log may hold unread."""
    bright_bundle(folder / "lid.bundle", None)
    (folder / "station.toml").write_text(
        f'[station]\nbundle = "lid.bundle"\nbackend = "{backend}"\nany_size = true\n'
        '[camera]\npath = "pictures"\nloop = true\nrate_hz = 100.0\n'
    )
    command = [*before, sys.executable, "-m", "segdec_edge", "run", str(folder / "station.toml")]
    env = {**os.environ, "PYTHONPATH": str(Path(segdec_edge.__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env) as process:
        if pipe_bytes is not None:
            fcntl.fcntl(process.stderr.fileno(), fcntl.F_SETPIPE_SZ, pipe_bytes)
        watchdog = threading.Timer(LIMIT_S, process.kill)
        watchdog.start()
        while recorded(folder) < 10:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        yield process
        watchdog.cancel()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_command_on_a_real_runtime_ends_in_order(
    pictures: Path, tmp_path: Path, hangup_ends: None, backend: str, number: signal.Signals
) -> None:
    pytest.importorskip(backend)
    with segdec_run(tmp_path, backend) as process:
        process.send_signal(number)
        told = process.stderr.read()
        assert process.wait() == 0, told
    assert not list(tmp_path.glob("*-wal"))
    found = check_ledger(tmp_path / "ledger.sqlite")
    assert found.is_whole
    assert found.parts >= 10
    assert all(row.score is not None for row in rows_of(tmp_path))


def test_a_station_started_by_nohup_outlives_its_terminal(pictures: Path, tmp_path: Path) -> None:
    with segdec_run(tmp_path, "onnxruntime", "nohup") as process:
        process.send_signal(signal.SIGHUP)
        until = len(rows_of(tmp_path)) + 20
        while len(rows_of(tmp_path)) < until:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0


def two_faults_in_turn(pictures: Path) -> None:
    """Each part is a line of the log."""
    for number, path in enumerate(sorted(pictures.iterdir())):
        if number % 2:
            path.write_bytes(b"")
        else:
            cv2.imwrite(str(path), np.zeros((40, 60), np.uint8))


def many_parts_later(process: subprocess.Popen[str], folder: Path) -> None:
    until = len(rows_of(folder)) + 150
    while len(rows_of(folder)) < until:
        assert process.poll() is None
        time.sleep(0.05)


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="a pipe's size can be set on Linux only")
def test_a_log_that_nobody_reads_holds_up_no_part(pictures: Path, tmp_path: Path) -> None:
    two_faults_in_turn(pictures)
    with segdec_run(tmp_path, "onnxruntime", pipe_bytes=4096) as process:
        many_parts_later(process, tmp_path)
        process.send_signal(signal.SIGTERM)
        assert process.stderr.read().count("is UNKNOWN") >= 100
        assert process.wait() == 0


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="a pipe's size can be set on Linux only")
def test_a_log_that_nobody_ever_reads_does_not_keep_the_command_from_ending(pictures: Path, tmp_path: Path) -> None:
    two_faults_in_turn(pictures)
    with segdec_run(tmp_path, "onnxruntime", pipe_bytes=4096) as process:
        many_parts_later(process, tmp_path)
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(30.0) == 0
        finally:
            process.kill()
    assert not list(tmp_path.glob("*-wal"))  # closed in order before it left
    assert check_ledger(tmp_path / "ledger.sqlite").is_whole


HANDLERS = """
import signal
from segdec_edge.station.stop import Stop
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
stop = Stop()
with stop.on_signals():
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
assert stop.requested
assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
print("put back")
"""


def test_handlers_are_put_back() -> None:
    """In a process of its own: after all other tests a signal met an alternate stack that some library had left."""
    done = subprocess.run([sys.executable, "-c", HANDLERS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "put back\n"), done.stderr


def test_other_threads_leave_the_handlers_alone() -> None:
    seen: list[object] = []

    def work() -> None:
        with Stop().on_signals():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


EARLY = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in a shell's background, it is ignored
class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == "typer":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
from segdec_edge.__main__ import main
main()
"""


def test_an_interrupt_while_the_commands_are_imported_leaves_no_traceback() -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(segdec_edge.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", EARLY], capture_output=True, text=True, check=False, env=env)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
