"""Recipes, drift, debounce and the reject queue of a station.toml: each has its effect in the running station."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from segdec_edge.bundle import read_bundle, set_profile, set_threshold, utc_now
from segdec_edge.config.camera import RtspConfig
from segdec_edge.config.recipes import with_changes
from segdec_edge.config.station import load_station
from segdec_edge.errors import ConfigError, RecipeError
from segdec_edge.profile import Seen, profile_of
from segdec_edge.station.changer import Changer
from segdec_edge.station.events import CameraState
from segdec_edge.station.recipe_lane import LaneRecipes
from segdec_edge.station.recipes import Recipes
from segdec_edge.station.reject import RejectFifo
from segdec_edge.types import Label
from tests.deploy.bright_parts import bright_bundle, trained_on
from tests.station.live_station import CAMERA, ONE, RECIPES, Live, live, made_folder, pictures
from tests.station.scripted import BAD, GOOD, TriggeredLine, running, wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made_folder(tmp_path)


def test_a_recipe_is_swapped_between_two_parts_and_a_refused_one_changes_nothing(folder: Path) -> None:
    with live(folder, RECIPES.replace("rate_hz = 10.0", "queue = 3") + CAMERA) as now:
        wait_until(lambda: len(now.rows) > 20)
        for name, why in (
            ("bare", "has no reference pictures"),
            ("other", "serves camera camera (queue)"),
        ):
            refused = now.station.change_recipe(name)
            assert refused.wait(20)
            assert why in (refused.error or "")
            assert any(alarm.name == "recipe" for alarm in now.alarms.active())
        change = now.station.change_recipe("cup")
        assert change.wait(20) and change.error is None
        wait_until(lambda: not any(alarm.name == "recipe" for alarm in now.alarms.active()))
        before = len(now.rows)
        wait_until(lambda: len(now.rows) > before + 20)
    judged = [row for row in now.rows if row.score is not None]
    assert [row.sequence for row in now.rows] == list(range(len(now.rows)))
    assert {(row.recipe, row.threshold) for row in judged} == {("lid", 0.5), ("cup", 0.3)}
    assert {row.bundle_digest for row in judged} == {read_bundle(folder / "lid.bundle").digest}
    assert sum(one.recipe != other.recipe for one, other in pairwise(judged)) == 1
    (told,) = now.events("recipe")
    assert told.startswith("cup: model ") and "2 reference pictures as expected" in told


def test_a_recipe_for_other_pictures_than_the_camera_gives_is_refused(folder: Path) -> None:
    """Of pictures of 16x16 the view shows 8 rows, turned: 16x8."""
    text = RECIPES + CAMERA + "[view]\nregion = [0, 0, 16, 8]\nrotation = 90\n"
    for name, source_hw in (("wide", (8, 16)), ("tall", (16, 8))):
        trained_on(bright_bundle(folder / f"{name}.bundle", None).path, source_hw)
        text += f'[recipes.{name}]\nbundle = "{name}.bundle"\nbackend = "onnxruntime"\nself_check = false\n'
    with live(folder, text) as now:
        wait_until(lambda: len(now.rows) > 5)
        refused = now.station.change_recipe("wide")
        assert refused.wait(20)
        assert refused.error == (
            "recipe wide refused, lid goes on: recipe wide: camera camera: a picture of 16x8 (HxW), trained on 8x16,"
            " wanted sides within 10 %. Check the camera's region and binning, or train on such pictures."
        )
        assert [alarm.message for alarm in now.alarms.active() if alarm.name == "recipe"] == [refused.error]
        before = len(now.rows)
        wait_until(lambda: len(now.rows) > before + 5)
        assert {row.recipe for row in now.rows if row.score is not None} == {"lid"}
        taken = now.station.change_recipe("tall")
        assert taken.wait(20) and taken.error is None


@pytest.mark.parametrize("remedy", ["put back", "changed"])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_backend_is_opened_again_with_the_very_bundle_it_had(
    folder: Path, monkeypatch: pytest.MonkeyPatch, swapped: bool, remedy: str
) -> None:
    """Somebody lays another bundle in its place: no part is judged by it, not by a backend opened anew either."""
    monkeypatch.setattr("segdec_edge.station.lane.REOPEN_S", (0.02, 0.05))
    bundle, recipe = folder / "lid.bundle", "cup" if swapped else "lid"
    old, kept = read_bundle(bundle).digest, (bundle / "meta.json").read_text()
    with live(folder, RECIPES + CAMERA + "deadline_ms = 100.0\n") as now:
        if swapped:
            assert now.station.change_recipe("cup").wait(20)
        new = set_threshold(bundle, 0.6, "tried out").digest
        judged_by(now, recipe, old)
        lane = now.station.lane()
        assert lane.judges is not None
        lane.judges.backend.close()  # as a device that is lost: each call raises BackendError from here on
        wait_until(lambda: "backend opening" in active(now))
        wait_until(lambda: sum(row.reason.startswith("late") for row in now.rows) > 3)
        assert now.rows[-1].verdict == "UNKNOWN"
        (told,) = [text for text in now.events("alarm") if text.startswith("backend opening")]
        assert all(
            part in told for part in (str(bundle), f"bundle {new[:12]}", f"wanted bundle {old[:12]}", "Put that one")
        )
        if remedy == "put back":
            (bundle / "meta.json").write_text(kept)
        else:
            assert now.station.change_recipe("lid").wait(20)
        wait_until(lambda: not active(now))
        judged_by(now, *((recipe, old) if remedy == "put back" else ("lid", new)))
    assert {row.bundle_digest for row in now.rows if row.score is not None} <= (
        {old} if remedy != "changed" else {old, new}
    )


def judged_by(now: Live, recipe: str, digest: str) -> None:
    """Parts come out judged so."""
    wait_until(
        lambda: (
            now.rows
            and [(one.score is not None, one.recipe, one.bundle_digest) for one in now.rows[-1:]]
            == [(True, recipe, digest)]
        )
    )


def active(now: Live) -> set[str]:
    return {alarm.name for alarm in now.alarms.active()}


def test_a_file_without_recipes_has_none_to_change_to(folder: Path) -> None:
    with live(folder, ONE + CAMERA) as now, pytest.raises(RecipeError, match=r"Add \[recipes\]"):
        now.station.change_recipe("cup")


def test_a_recipe_may_start_with_camera_settings_of_its_own(folder: Path) -> None:
    with live(folder, RECIPES.replace('recipe = "lid"', 'recipe = "other"') + CAMERA) as now:
        wait_until(lambda: len(now.rows) > 2)
        change = now.station.change_recipe("cup")
        assert change.wait(20) and change.error is None
        wait_until(lambda: sum(row.recipe == "cup" for row in now.rows) > 50)
    slow, fast = ([row.captured_ns for row in now.rows if row.recipe == name] for name in ("other", "cup"))
    assert min(late - early for early, late in pairwise(slow)) > 80e6
    assert fast[-1] - fast[0] < len(fast) * 80e6


def test_debounce_tells_each_change_of_its_event(folder: Path) -> None:
    pictures(folder, [50, 50, 50, 220, 220, 220, 50, 50, 50])
    with live(folder, ONE + CAMERA + "[debounce]\nframes = 3\ndefects = 2\n") as now:
        for label in (Label.DEFECT, Label.OK, Label.DEFECT):
            wait_until(lambda: now.station.follower.event("camera") is label)  # noqa: B023 - it runs at once
        assert now.station.follower.event("nobody") is None
    events = now.events("event")
    assert {text.split(":")[0] for text in events} == {"OK", "DEFECT"}
    assert all(one[:2] != other[:2] for one, other in pairwise(events))


def test_debounce_starts_anew_with_another_recipe(folder: Path) -> None:
    """All parts are good, so only an event that was UNKNOWN in between becomes OK a second time."""
    with live(folder, RECIPES + CAMERA + "[debounce]\nframes = 10\ndefects = 2\n") as now:
        for recipe, told in (("lid", 1), ("cup", 2)):
            assert recipe == "lid" or now.station.change_recipe(recipe).wait(20)
            wait_until(lambda: sum(row.recipe == recipe for row in now.rows) > 25)  # noqa: B023 - it runs at once
            assert now.events("event") == ["OK: 0 of the last 10 frames not OK"] * told
            assert now.station.follower.event("camera") is Label.OK


def test_drift_of_the_light_is_an_alarm_and_changes_no_verdict(folder: Path) -> None:
    with live(folder, ONE + CAMERA) as now:
        wait_until(lambda: now.events("drift"))
    (told,) = now.events("drift")
    assert told.startswith("no profile: drift is not watched; segdec profile ")
    seen = [Seen(False, 0.1 + 0.01 * (number % 7), (40.0 + number % 7, 15.0)) for number in range(40)]
    model = read_bundle(folder / "lid.bundle").meta.model.sha256
    made = profile_of(seen, data="made", subset="train", model_sha256=model, when=utc_now())
    set_profile(folder / "lid.bundle", made)
    fast = "[drift]\nwindow = 200\npatience = 100\n"
    with live(folder, ONE + CAMERA.replace("400", "0") + fast) as now:  # level 50, where 40 to 46 was seen
        wait_until(lambda: any(alarm.name.startswith("drift ") for alarm in now.alarms.active()))
    assert {row.verdict for row in now.rows if row.score is not None} == {"OK"}
    assert any("brightness" in text and "training profile" in text for text in now.events("alarm"))


def test_the_reject_queue_follows_parts_from_trigger_to_verdict(tmp_path: Path) -> None:
    line = TriggeredLine([[GOOD, BAD, GOOD]])
    with running(tmp_path, {"camera": line}, trigger="software", timeout_s=0.5, queue=8) as now:
        wait_until(lambda: now.station.states()["camera"] is CameraState.RUNNING)
        fifo = now.station.follower.reject = RejectFifo(100, 5, max_step=1000)
        assert not fifo.may_pass(0)
        ids = [now.station.trigger("camera", encoder=reading) for reading in (20, 70, 120)]
        wait_until(lambda: len(now.seen.verdicts) == 3)
        passing = {reading: (fifo.due(reading), fifo.may_pass(reading)) for reading in (116, 140, 170, 220)}
    told = {one.part_id: one.reject for due, _ in passing.values() for one in due if one.part_id}
    assert told == {ids[0]: False, ids[1]: True, ids[2]: False}
    assert {reading: may for reading, (_, may) in passing.items()} == {116: True, 140: False, 170: False, 220: True}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("[views.front]\nrotation = 90\n", r"views\.front is of no camera here, wanted one of: camera"),
        ('[parts]\nidentity = "given"\n', "camera camera is not triggered by software"),
        ('[parts.reject]\nby = "count"\ndistance = 3\n', "nothing is sent with its triggers"),
        (
            '[debounce]\nframes = 3\ndefects = 2\n[camera]\nkind = "aravis"\ntrigger = "software"\n',
            "camera camera is triggered: each frame is a part of its own",
        ),
        (
            '[parts]\nidentity = "given"\n[camera]\nkind = "aravis"\ntrigger = "software"\ntrigger_interval_s = 0.5\n',
            "camera camera triggers itself: every part would be rejected",
        ),
    ],
)
def test_tables_that_could_have_no_effect_are_refused(tmp_path: Path, more: str, words: str) -> None:
    (tmp_path / "station.toml").write_text(ONE + (more if "[camera]" in more else CAMERA + more))
    with pytest.raises(ConfigError, match=words):
        load_station(tmp_path / "station.toml")


def test_a_recipe_that_is_asked_for_before_the_first_is_open_is_refused_each_time(folder: Path) -> None:
    (folder / "station.toml").write_text(RECIPES + CAMERA)
    table = load_station(folder / "station.toml").all_recipes
    changer = Changer([LaneRecipes(Recipes(table, lambda *_: {}), "lid")])
    for _ in range(2):
        refused = changer.request("cup")
        assert refused.wait(20)
        assert "recipe lid is not open yet" in (refused.error or "")


def test_a_recipe_changes_for_every_backend_or_for_none(folder: Path) -> None:
    cameras = "".join(CAMERA.replace("[camera]", f'[[cameras]]\nname = "{name}"') for name in ("left", "right"))
    text = RECIPES.replace("[station]", "[station]\nown_backends = true") + cameras
    with live(folder, text) as now:
        for name, error in (("bare", "has no reference pictures"), ("cup", None)):
            change = now.station.change_recipe(name)
            assert change.wait(20)
            assert (error or "") in (change.error or "") and (change.error is None) == (error is None)
            before = len(now.rows)
            wait_until(lambda: len(now.rows) > before + 20)  # noqa: B023 - it runs at once
            judges = [now.station.lane(f"backend {camera}").judges for camera in ("left", "right")]
            assert [one.recipe for one in judges if one is not None] == ["cup" if error is None else "lid"] * 2
            assert bool(error) == any(alarm.name == "recipe" for alarm in now.alarms.active())
    (told,) = now.events("recipe")
    assert told.startswith("cup: model ")
    for camera in ("left", "right"):
        judged = [row for row in now.rows if row.camera == camera and row.score is not None]
        assert {(row.recipe, row.threshold) for row in judged} == {("lid", 0.5), ("cup", 0.3)}
        assert sum(one.recipe != other.recipe for one, other in pairwise(judged)) == 1


def test_a_recipe_changes_pictures_beside_the_file_and_keeps_addresses(folder: Path) -> None:
    (folder / "station.toml").write_text(RECIPES.replace("rate_hz = 10.0", 'path = "cups"') + CAMERA)
    config = load_station(folder / "station.toml")
    assert config.recipes["other"].camera == {"path": str(folder / "cups")}
    rtsp = '[camera]\nkind = "rtsp"\nurl = "rtsp://me:secret@host/one"\n'
    (folder / "station.toml").write_text(RECIPES.replace("rate_hz = 10.0", 'transport = "udp"') + rtsp)
    config = load_station(folder / "station.toml")
    changed = with_changes(config.all_cameras[0], config.recipes["other"].camera, "recipes.other.camera")
    assert isinstance(changed, RtspConfig)
    assert (changed.url.get_secret_value(), changed.transport) == ("rtsp://me:secret@host/one", "udp")
    assert "secret" not in repr(changed)


def test_a_drift_alarm_ends_with_the_watch_that_raised_it(folder: Path) -> None:
    seen = [Seen(False, 0.1 + 0.01 * (number % 7), (40.0 + number % 7, 15.0)) for number in range(40)]
    model = read_bundle(folder / "lid.bundle").meta.model.sha256
    made = profile_of(seen, data="made", subset="train", model_sha256=model, when=utc_now())
    set_profile(folder / "lid.bundle", made)
    fast = "[drift]\nwindow = 200\npatience = 100\n"
    with live(folder, RECIPES + CAMERA.replace("400", "0") + fast) as now:
        wait_until(lambda: any(alarm.name.startswith("drift camera/lid") for alarm in now.alarms.active()))
        change = now.station.change_recipe("cup")
        assert change.wait(20) and change.error is None
        wait_until(lambda: any(row.recipe == "cup" for row in now.rows))
        assert not any(alarm.name.startswith("drift camera/lid") for alarm in now.alarms.active())


@pytest.mark.parametrize(
    ("changes", "camera", "words"),
    [
        ("rate_hz = 0.01", CAMERA, r"recipes\.other\.camera\.rate_hz 0\.01 gives a frame every 100 s"),
        (
            'trigger = "free"',
            '[camera]\nkind = "aravis"\ntrigger = "software"\n[parts]\nidentity = "given"\n',
            r"recipes\.other\.camera\.trigger: a recipe changes a camera's settings",
        ),
    ],
)
def test_a_recipe_that_its_station_could_not_start_with_is_refused(
    tmp_path: Path, changes: str, camera: str, words: str
) -> None:
    (tmp_path / "station.toml").write_text(RECIPES.replace("rate_hz = 10.0", changes) + camera)
    with pytest.raises(ConfigError, match=words):
        load_station(tmp_path / "station.toml")
