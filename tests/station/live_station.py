"""A station of a real station.toml in a thread, with pictures, bundle and ledger in one folder. No test of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2

from segdec_edge.config.station import load_station
from segdec_edge.deploy.reference import make_reference
from segdec_edge.outputs.archive import open_archive
from segdec_edge.outputs.ledger import Ledger
from segdec_edge.outputs.ledger_file import Row
from segdec_edge.outputs.ledger_read import read_events, read_rows
from segdec_edge.station.alarms import Alarms
from segdec_edge.station.loop import Station
from segdec_edge.station.part import new_run_id
from segdec_edge.station.recorder import Recorder
from segdec_edge.station.run import make_station
from segdec_edge.station.stop import Stop
from tests.deploy.bright_parts import SIZE_HW, bright_bundle, write_parts
from tests.fakes import plain_part

CAMERA = '[camera]\npath = "pictures"\nloop = true\nrate_hz = 400.0\n'
RECIPES = """
[station]
recipe = "lid"
[recipes.lid]
bundle = "lid.bundle"
backend = "onnxruntime"
[recipes.cup]
bundle = "lid.bundle"
backend = "onnxruntime"
threshold = 0.3
[recipes.bare]
bundle = "bare.bundle"
backend = "onnxruntime"
[recipes.other]
bundle = "lid.bundle"
backend = "onnxruntime"
camera = { rate_hz = 10.0 }
"""
ONE = '[station]\nbundle = "lid.bundle"\nbackend = "onnxruntime"\n'


@dataclass
class Live:
    station: Station
    alarms: Alarms
    ledger: Path

    @property
    def rows(self) -> list[Row]:
        return sorted(read_rows(self.ledger), key=lambda row: row.sequence)

    def events(self, kind: str) -> list[str]:
        return [event.text for event in read_events(self.ledger) if event.kind == kind]


def made_folder(folder: Path) -> Path:
    """A bundle with reference pictures, one without, and a picture of a good part."""
    made_lid(folder)
    bright_bundle(folder / "bare.bundle", None)
    pictures(folder, [50])
    return folder


def made_lid(folder: Path) -> Path:
    """A bundle with reference pictures."""
    path = bright_bundle(folder / "lid.bundle", write_parts(folder / "parts")).path
    make_reference(path, backend="onnxruntime")
    return path


def pictures(folder: Path, levels: list[int]) -> None:
    (folder / "pictures").mkdir(exist_ok=True)
    for number, value in enumerate(levels):
        assert cv2.imwrite(str(folder / "pictures" / f"{number:03}.png"), plain_part(value, SIZE_HW))


@contextmanager
def live(folder: Path, text: str) -> Iterator[Live]:
    """The station of this file, ended at the end."""
    (folder / "station.toml").write_text(text)
    config = load_station(folder / "station.toml")
    alarms, stop, run_id = Alarms(), Stop(), new_run_id()
    with closing(Ledger(config.ledger.path, run_id)) as ledger:
        recorder = Recorder(ledger, open_archive(config.archive), alarms=alarms)
        station = make_station(config, recorder, run_id, alarms, stop)
        thread = threading.Thread(target=station.run)
        thread.start()
        try:
            assert station.ready.wait(20)
            yield Live(station, alarms, config.ledger.path)
        finally:
            stop.request()
            thread.join(20)
    assert not thread.is_alive()
