"""station.toml as users write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from segdec_edge.config.camera import AravisConfig, ReplayConfig
from segdec_edge.config.station import load_station
from segdec_edge.errors import ConfigError
from tests.config.station_file import SMALLEST, written

GIGE = """
[station]
bundle = "parts.bundle"
[camera]
kind = "aravis"
"""


def test_smallest_file_has_defaults_and_paths_beside_it(tmp_path: Path) -> None:
    config = load_station(written(tmp_path))
    assert config.station.bundle == tmp_path / "parts.bundle"
    assert config.camera.path == tmp_path / "pictures"
    assert config.ledger.path == tmp_path / "ledger.sqlite"
    assert config.archive.path == tmp_path / "archive"
    assert (config.station.backend, config.archive.keep, config.station.threshold) == ("auto", "defect", None)


def test_paths_do_not_depend_on_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    config = load_station(Path(tmp_path.name) / "station.toml")
    assert config.camera.path == tmp_path / "pictures"


def test_absolute_and_home_paths_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/line")
    text = SMALLEST.replace('"pictures"', '"~/pictures"') + '[ledger]\npath = "/var/lib/segdec/ledger.sqlite"\n'
    config = load_station(written(tmp_path, text))
    assert config.camera.path == Path("/home/line/pictures")
    assert config.ledger.path == Path("/var/lib/segdec/ledger.sqlite")


def test_whole_numbers_are_fine_where_a_number_is_wanted(tmp_path: Path) -> None:
    text = SMALLEST + 'rate_hz = 5\nloop = true\n[archive]\nmax_megabytes = 200\nkeep = "all"\n'
    config = load_station(written(tmp_path, text))
    assert (config.camera.rate_hz, config.camera.loop, config.archive.max_megabytes) == (5.0, True, 200.0)


def test_a_file_without_kind_is_a_replay_and_every_source_has_a_name(tmp_path: Path) -> None:
    assert load_station(written(tmp_path)).camera == ReplayConfig(path=tmp_path / "pictures", name="camera")


def test_a_kind_chooses_the_table(tmp_path: Path) -> None:
    text = GIGE + 'name = "left_2"\ndevice = "GV01"\ntrigger = "hardware"\nregion_xywh = [8, 0, 512, 256]\n'
    assert load_station(written(tmp_path, text)).camera == AravisConfig(
        kind="aravis", name="left_2", device="GV01", trigger="hardware", region_xywh=(8, 0, 512, 256)
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (SMALLEST + "rate_hx = 5", "unknown setting camera.rate_hx. Did you mean rate_hz?"),
        (SMALLEST + 'rate_hz = "fast"', "camera.rate_hz is 'fast'"),
        (SMALLEST + "rate_hz = -1", "camera.rate_hz is -1"),
        (SMALLEST + 'kind = "genicam"', "camera.kind is 'genicam', wanted 'replay', 'aravis'"),
        (SMALLEST + "kind = 3", "camera.kind is '3'"),
        ('camera = "left"\n[station]\nbundle = "parts.bundle"', "camera is 'left': input should be a table"),
        (SMALLEST + 'name = "Left"', "camera.name is 'Left'"),
        (SMALLEST + 'name = ""', "camera.name is ''"),
        (SMALLEST + 'kind = "aravis"', "unknown setting camera.path"),
        (GIGE + "exposure = 5", "unknown setting camera.exposure. Did you mean exposure_us?"),
        (GIGE + 'trigger = "encoder"', "camera.trigger is 'encoder'"),
        (GIGE + "exposure_us = 0", "camera.exposure_us is 0"),
        (GIGE + "region_xywh = [0, 0, 512]", "camera.region_xywh.3 is missing"),
        (GIGE + "region_xywh = [0, 0, 0, 512]", "region_xywh [0, 0, 0, 512]"),
        (GIGE + "rate_hz = 5\ntrigger = 'software'", "rate_hz 5 with trigger 'software'"),
        (SMALLEST + "loop = 1", "camera.loop is 1"),
        (SMALLEST + "rate_hz = 0.1", "gives a frame every 10 s"),
        (SMALLEST.replace('"pictures"', "7"), "camera.path is 7"),
        (SMALLEST.replace("[camera]", "threshold = 1.5\n[camera]"), "station.threshold is 1.5"),
        (SMALLEST.replace("[camera]", "timeout_s = 0\n[camera]"), "station.timeout_s is 0"),
        (SMALLEST.replace("[camera]", "threshold = nan\n[camera]"), "station.threshold is nan"),
        (SMALLEST + '[archive]\nkeep = "some"', "archive.keep is 'some'"),
        (SMALLEST + "[archive]\nmax_megabytes = 0", "archive.max_megabytes is 0"),
        ('[camera]\npath = "pictures"', "station is missing"),
    ],
)
def test_a_mistake_is_told_by_its_name(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_station(written(tmp_path, text))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    text = SMALLEST.replace('bundle = "parts.bundle"', "bundel = 3") + "rate_hz = -1\n"
    with pytest.raises(ConfigError) as caught:
        load_station(written(tmp_path, text))
    assert len(str(caught.value).splitlines()) == 3


CAMERAS = """
[station]
bundle = "parts.bundle"
[[cameras]]
name = "left"
path = "pictures"
deadline_ms = 80
queue = 4
[[cameras]]
name = "right"
kind = "aravis"
trigger = "software"
trigger_interval_s = 0.5
backoff_s = [0.2, 5.0]
"""


def test_several_cameras_each_with_its_own_ways(tmp_path: Path) -> None:
    config = load_station(written(tmp_path, CAMERAS))
    left, right = config.all_cameras
    assert (left.name, left.path, left.deadline_ms, left.queue) == ("left", tmp_path / "pictures", 80.0, 4)
    assert (right.name, right.trigger_interval_s, right.backoff_s) == ("right", 0.5, (0.2, 5.0))
    assert config.camera_named("right") is right
    assert config.camera_named(None) is left
    with pytest.raises(ConfigError, match="no camera 'middle' in this file, wanted one of: left, right"):
        config.camera_named("middle")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (CAMERAS + '[camera]\npath = "pictures"', "wanted [camera] or one [[cameras]] or more"),
        ('[station]\nbundle = "parts.bundle"', "wanted [camera] or one [[cameras]] or more"),
        (CAMERAS.replace('"right"', '"left"'), "cameras.name left comes twice"),
        (CAMERAS.replace('"software"', '"hardware"'), 'trigger_interval_s needs trigger = "software"'),
        (CAMERAS.replace("[0.2, 5.0]", "[5.0, 0.2]"), "backoff_s [5.0, 0.2], wanted"),
        (CAMERAS.replace("queue = 4", "queue = 0"), "queue is 0"),
        (CAMERAS.replace("deadline_ms = 80", "deadline_ms = 0"), "deadline_ms is 0"),
        (CAMERAS + 'policy = "latest"', "policy \"latest\" with trigger 'software' would drop parts"),
        (SMALLEST.replace("[camera]", 'on_ledger_failure = "hide"\n[camera]'), "station.on_ledger_failure is 'hide'"),
    ],
)
def test_a_mistake_about_cameras_is_told_by_its_name(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_station(written(tmp_path, text))
    assert told in str(caught.value)
