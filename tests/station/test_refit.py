"""A recipe with camera settings of its own, while the station runs: no part is judged by another recipe's settings."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import cv2
import pytest

from segdec_edge.cameras import open_camera
from segdec_edge.config.camera import AravisConfig, CameraConfig
from segdec_edge.errors import RecipeError
from segdec_edge.outputs.ledger_file import Row
from segdec_edge.station import feed
from segdec_edge.station.events import CameraState
from segdec_edge.station.refit import REASON
from segdec_edge.types import Camera, Frame
from tests.deploy.bright_parts import SIZE_HW
from tests.fakes import plain_part
from tests.gige import GigeCamera, gige_table
from tests.station.live_station import CAMERA, RECIPES, Live, live, made_folder
from tests.station.scripted import GOOD, Line, LineCamera, TriggeredLine, running, wait_until

CUPS = RECIPES.replace("rate_hz = 10.0", 'path = "cups"')
GONE = RECIPES.replace("rate_hz = 10.0", 'path = "nowhere"')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made_folder(tmp_path)
    (tmp_path / "cups").mkdir()
    assert cv2.imwrite(str(tmp_path / "cups" / "000.png"), plain_part(60, SIZE_HW))
    return tmp_path


def changed(now: Live, recipe: str) -> str | None:
    """Why not, where it was refused; else after some parts by it."""
    change = now.station.change_recipe(recipe)
    assert change.wait(40)
    if change.error is None:
        seen = len(now.rows)
        wait_until(lambda: sum(row.recipe == recipe and row.score is not None for row in now.rows[seen:]) > 5)
    return change.error


def folder_of(row: Row) -> str:
    return Path(row.source).parent.name


@pytest.mark.parametrize("policy", ["lossless", "latest"])
def test_pictures_of_other_settings_are_judged_by_their_recipe_alone(folder: Path, policy: str) -> None:
    with live(folder, CUPS + CAMERA + f'policy = "{policy}"\n') as now:
        for recipe in ("other", "lid", "other", "cup", "lid") * 2:
            assert changed(now, recipe) is None
        assert not now.alarms.active()
    judged = [row for row in now.rows if row.score is not None]
    assert {(row.recipe, folder_of(row)) for row in judged} == {
        ("lid", "pictures"), ("cup", "pictures"), ("other", "cups"),
    }  # fmt: skip
    assert sum(one.recipe != other.recipe for one, other in pairwise(judged)) == 10 - (now.rows[0].recipe == "other")
    numbers = [row.sequence for row in now.rows]
    assert len(set(numbers)) == len(numbers)
    assert policy == "latest" or numbers == list(range(len(numbers)))


def test_settings_that_cannot_be_opened_are_refused_and_the_old_ones_go_on(folder: Path) -> None:
    with live(folder, GONE + CAMERA) as now:
        wait_until(lambda: len(now.rows) > 5)
        for _ in range(2):
            why = changed(now, "other") or ""
            assert why.startswith("recipe other refused, lid goes on: camera camera: ") and "nowhere" in why
            before = len(now.rows)
            wait_until(lambda: len(now.rows) > before + 10)  # noqa: B023 - it runs at once
        assert now.station.states()["camera"] is CameraState.RUNNING
    assert {(row.recipe, folder_of(row)) for row in now.rows if row.score is not None} == {("lid", "pictures")}


def test_an_unknown_recipe_closes_no_camera(folder: Path) -> None:
    with live(folder, CUPS + CAMERA) as now:
        wait_until(lambda: len(now.rows) > 5)
        assert "'cub' is unknown" in (changed(now, "cub") or "")
    assert len(now.events("camera")) == 2, "running, ended"


def given(lives: int = 9, open_with: tuple[str, ...] = ()) -> Line:
    line = Line([[GOOD] * 100_000] * lives, open_with=open_with)
    line.go.set()
    return line


@pytest.mark.parametrize("why", ["refused", "not taken", "taken"])
def test_cameras_change_all_or_none(tmp_path: Path, why: str) -> None:
    old = {name: given() for name in ("left", "right")}
    new = {"left": given(), "right": given(open_with=("refused",) if why == "refused" else ())}
    with running(tmp_path, old) as now:
        wait_until(lambda: all(len(now.seen.of(name)) > 5 for name in old))
        try:
            with now.station.refit({name: line.open for name, line in new.items()}) as go_on:
                time.sleep(0.2)  # what waited is judged
                held = len(now.seen.verdicts)
                time.sleep(0.1)
                assert len(now.seen.verdicts) == held, "a held camera gives its frames to nobody"
                if why == "taken":
                    go_on()
        except RecipeError as error:
            assert why == "refused" and "camera right: the device ignored exposure_us" in str(error)
        before = len(now.seen.verdicts)
        wait_until(lambda: len(now.seen.verdicts) > before + 20)
        assert not now.active()
    for name in old:
        assert (old[name].opened, old[name].closed) == ((1, 1) if why == "taken" else (2, 2))
        sequences = [verdict.sequence for verdict in now.seen.of(name)]
        assert sequences == list(range(len(sequences)))


def test_settings_whose_camera_hangs_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "OPEN_LIMIT_S", 0.2)
    hung = threading.Event()
    line = given()

    def hanging() -> LineCamera:
        hung.wait(20)
        return line.open()

    with running(tmp_path, {"camera": line}) as now:
        wait_until(lambda: len(now.seen.verdicts) > 5)
        with pytest.raises(RecipeError, match="open did not return"), now.station.refit({"camera": hanging}):
            raise AssertionError("it is not open")
        before = len(now.seen.verdicts)
        wait_until(lambda: len(now.seen.verdicts) > before + 5)
        hung.set()


def test_a_camera_that_is_lost_later_comes_back_with_the_settings_taken(tmp_path: Path) -> None:
    old, new = given(), Line([[GOOD] * 5 + ["gone"], [GOOD] * 100_000])
    new.go.set()
    with running(tmp_path, {"camera": old}) as now:
        wait_until(lambda: len(now.seen.verdicts) > 5)
        with now.station.refit({"camera": new.open}) as go_on:
            go_on()
        wait_until(lambda: new.opened == 2 and now.station.states()["camera"] is CameraState.RUNNING)
    assert old.opened == 1


def test_a_stop_does_not_wait_for_a_camera_that_hangs_in_its_new_settings(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, hung = threading.Event(), threading.Event()

    def slow(table: CameraConfig) -> Camera:
        if "cups" in str(table):
            opening.set()
            hung.wait(60)
        return open_camera(table)

    monkeypatch.setattr("segdec_edge.station.run.open_camera", slow)
    monkeypatch.setattr("segdec_edge.station.loop._CLOSE_S", 0.3)
    with live(folder, CUPS.replace("[station]", "[station]\ntimeout_s = 0.5") + CAMERA) as now:
        wait_until(lambda: len(now.rows) > 5)
        change = now.station.change_recipe("other")
        assert opening.wait(20)
        assert now.station.change_recipe("cup").error == "recipe cup stays out: other is being loaded. Wait."
    assert change.wait(20) and "other" in (change.error or "")
    hung.set()
    assert {row.recipe for row in now.rows if row.score is not None} == {"lid"}


def test_triggers_while_a_camera_is_opened_anew_are_unknown_and_accounted_for(tmp_path: Path) -> None:
    old, new = TriggeredLine([[GOOD] * 1000]), TriggeredLine([[GOOD] * 1000])
    new.go.set()
    with running(tmp_path, {"camera": old}, trigger="software", timeout_s=0.5, queue=8) as now:
        ids = [now.station.trigger("camera")]
        wait_until(lambda: len(now.seen.verdicts) == 1)
        with now.station.refit({"camera": new.open}) as go_on:
            ids.append(now.station.trigger("camera"))
            go_on()
        wait_until(lambda: now.station.states()["camera"] is CameraState.RUNNING)
        ids.append(now.station.trigger("camera"))
        wait_until(lambda: len(now.seen.verdicts) == 3)
        assert not now.active()
    assert [(row.part_id, row.verdict) for row in now.rows] == list(zip(ids, ["OK", "UNKNOWN", "OK"], strict=True))
    assert now.rows[1].reason == f"not triggered: {REASON}"
    assert (old.triggers, new.triggers) == (1, 1)


def test_a_frame_that_a_lane_took_while_its_camera_was_closed_is_no_part(tmp_path: Path) -> None:
    line = Line([[GOOD] * 5 + ["idle"]])
    with running(tmp_path, {"camera": line}, policy="latest", timeout_s=5.0) as now:
        grab = now.station._grabs["camera"]
        wait_until(lambda: grab.frames == 5 and len(grab.intake) == 0)
        opened, lost = grab.triggers, grab.drops["camera lost"]
        grab.lost(REASON)
        taken = Frame(plain_part(GOOD, (40, 60)), 4, time.time_ns(), time.monotonic_ns(), "4")
        assert grab.intake.as_part(taken) is None
        assert (grab.triggers, grab.drops["camera lost"]) == (opened, lost + 1)


@contextmanager
def triggering(now: Live) -> Iterator[list[str]]:
    """A part every 20 ms."""
    ids: list[str] = []
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.02):
            ids.append(now.station.trigger("camera"))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield ids
    finally:
        stop.set()
        thread.join(10)


def aravis_toml(table: AravisConfig) -> str:
    x, y, width, height = table.region_xywh or (0, 0, 0, 0)
    return (
        f'[camera]\nkind = "aravis"\ndevice = "{table.device}"\nregion_xywh = [{x}, {y}, {width}, {height}]\n'
        'trigger = "software"\nframe_timeout_s = 1.0\nexposure_us = 1000.0\ngain = 2.0\n'
    )


def test_a_gige_camera_takes_the_settings_of_each_recipe_or_keeps_the_old(folder: Path) -> None:
    """Judged by one recipe alone, every trigger with one row; the size of the pictures tells which settings hold."""
    small = RECIPES.replace("rate_hz = 10.0", "region_xywh = [0, 0, 64, 48], exposure_us = 2000.0")
    text = small + '[recipes.much]\nbundle = "lid.bundle"\nbackend = "onnxruntime"\ncamera = { gain = 3.4 }\n'
    with GigeCamera(), live(folder, text + aravis_toml(gige_table())) as now, triggering(now) as ids:
        size_hw = now.station.lane().pictures_hw
        for recipe, wanted_hw in (("lid", (96, 128)), ("other", (48, 64)), ("lid", (96, 128)), ("other", (48, 64))):
            assert changed(now, recipe) is None
            assert size_hw() == {"camera": wanted_hw}
        assert "other goes on: camera camera: Aravis-Fake-SEGDEC01: the device did not take" in (
            changed(now, "much") or ""
        )
        assert changed(now, "other") is None
        assert size_hw() == {"camera": (48, 64)}
        assert not {alarm.name for alarm in now.alarms.active()} - {"recipe"}
    assert [row.part_id for row in now.rows] == ids
    unjudged = [row.reason for row in now.rows if row.score is None]
    assert any(REASON in reason for reason in unjudged)
    judged = [row.recipe for row in now.rows if row.score is not None]
    assert sum(one != other for one, other in pairwise(judged)) == 3
