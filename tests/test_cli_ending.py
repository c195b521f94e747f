"""How SIGTERM and SIGHUP end a command: it dies of them and leaves nothing half-written. Real processes and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

PICTURES = 400


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a COCO export of so many pictures that its import takes a second and more."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (240, 320), dtype=np.uint8)
    for number in range(PICTURES):
        pixels[0, 0], pixels[0, 1] = divmod(number, 256)
        cv2.imwrite(str(folder / "images" / f"{number:03}.png"), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    listed = [{"id": one, "file_name": f"{one:03}.png", "width": 320, "height": 240} for one in range(PICTURES)]
    drawn = [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [10, 10, 30, 30]}]
    content = {"images": listed, "annotations": drawn, "categories": [{"id": 1, "name": "scratch"}]}
    (folder / "export.json").write_text(json.dumps(content))
    return folder


@contextmanager
def importing(export: Path, folder: Path, *before: str) -> Iterator[subprocess.Popen[str]]:
    """The real command, once it writes pictures."""
    command = [
        *before, sys.executable, "-m", "segdec_edge", "data", "import", "coco", str(export / "export.json"),
        "--images", str(export / "images"), "--out", str(folder / "parts"),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            end = time.monotonic() + 60
            while not list(folder.glob(".segdec_tmp*/images/*")):
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
                assert time.monotonic() < end
                time.sleep(0.005)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGHUP], [signal.SIGTERM, signal.SIGTERM]])
def test_what_was_begun_vanishes_and_the_process_dies_of_the_signal(
    export: Path, tmp_path: Path, hangup_ends: None, numbers: list[signal.Signals]
) -> None:
    with importing(export, tmp_path) as process:
        for number in numbers:
            process.send_signal(number)
        told = process.communicate(timeout=60)[1]
        assert process.returncode == -numbers[0], told
    assert "Traceback" not in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("then", [[], [signal.SIGINT], [signal.SIGTERM]])
def test_ctrl_c_leaves_as_little_and_whatever_follows_it(
    export: Path, tmp_path: Path, ctrl_c_ends: None, then: list[signal.Signals]
) -> None:
    with importing(export, tmp_path) as process:
        for number in (signal.SIGINT, *then):
            process.send_signal(number)
        told = process.communicate(timeout=60)[1]
        assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in told
    assert list(tmp_path.iterdir()) == []


def test_under_nohup_the_terminals_end_ends_nothing(export: Path, tmp_path: Path) -> None:
    with importing(export, tmp_path, "nohup") as process:
        process.send_signal(signal.SIGHUP)
        assert process.wait(120) == 0
    assert len(list((tmp_path / "parts" / "images").iterdir())) == PICTURES


def child(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"import os, signal, sys, threading\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n{script}"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": ""}, timeout=60, check=False,
    )  # fmt: skip


AT_THE_END = """
from segdec_edge.ending import ending_in_order
try:
    with ending_in_order():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            print("tidied", end="")
finally:
    print("never said", file=sys.stderr)
"""


def test_what_was_said_is_said_and_a_second_signal_does_not_interrupt_the_tidying() -> None:
    done = child(AT_THE_END)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "tidied", "")


CLOSED = """
from segdec_edge.ending import ending_in_order
sys.stdout = sys.stderr = None
with ending_in_order():
    signal.raise_signal(signal.SIGTERM)
"""


def test_without_any_output_the_process_dies_of_the_signal_too() -> None:
    assert child(CLOSED).returncode == -signal.SIGTERM


LOST = """
from segdec_edge import ending
class Swallows:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

ending.PATIENCE_S = float(sys.argv[1])
with ending.ending_in_order():
    Swallows()
    print("goes on", flush=True)
    signal.raise_signal(signal.SIGHUP)
    print("was patient", flush=True)
"""


@pytest.mark.parametrize(
    ("patience", "ends_by", "said"),
    [("-1", signal.SIGHUP, "goes on\n"), ("60", signal.SIGTERM, "goes on\nwas patient\n")],
)
def test_where_the_interruption_was_lost_a_later_signal_ends_it(patience: str, ends_by: int, said: str) -> None:
    done = child(LOST, patience)
    assert (done.returncode, done.stdout) == (-ends_by, said)


HANDLERS = """
from segdec_edge.ending import ending_in_order
mine = lambda number, frame: print("mine", number == signal.SIGTERM)
signal.signal(signal.SIGTERM, mine)
with ending_in_order():
    signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL
assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)) == (mine, signal.SIG_DFL)

def elsewhere():
    with ending_in_order():
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
        print("elsewhere")

other = threading.Thread(target=elsewhere)
other.start()
other.join()
"""


def test_handlers_of_others_stay_and_ours_are_taken_back() -> None:
    done = child(HANDLERS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "mine True\nelsewhere\n", "")
