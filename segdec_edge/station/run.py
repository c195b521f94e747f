"""A station.toml becomes a running station: cameras, ledger, backends and loop are opened and joined here only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import fields
from functools import partial

from rich.console import Console

from segdec_edge.bundle import Bundle
from segdec_edge.cameras import open_camera
from segdec_edge.config.camera import AravisConfig, CameraConfig, ReplayConfig, RtspConfig, trigger_of
from segdec_edge.config.recipes import RecipeConfig, with_changes
from segdec_edge.config.station import StationConfig
from segdec_edge.decision import Rule
from segdec_edge.errors import RecipeError
from segdec_edge.outputs.archive import open_archive
from segdec_edge.outputs.ledger import Ledger
from segdec_edge.station.alarms import Alarms
from segdec_edge.station.changer import ALARM, Changer
from segdec_edge.station.follow import Follower
from segdec_edge.station.grab import Source
from segdec_edge.station.inspection import Inspector
from segdec_edge.station.loop import Station
from segdec_edge.station.part import new_run_id
from segdec_edge.station.parts import Names
from segdec_edge.station.recipe_lane import LaneRecipes
from segdec_edge.station.recipes import Loaded, Recipes
from segdec_edge.station.recorder import Recorder
from segdec_edge.station.reject import RejectFifo
from segdec_edge.station.setup import StationSource, Tuning
from segdec_edge.station.statistics import RunSummary
from segdec_edge.station.stop import Stop
from segdec_edge.station.table import LiveTable
from segdec_edge.types import Backend, BoolMask, Camera
from segdec_edge.view import View


def run(config: StationConfig, console: Console | None = None, stop: Stop | None = None) -> RunSummary:
    """Run a station to its cameras' end, or until Ctrl-C, SIGTERM or `stop`; every verdict is in the ledger then.

    console shows the live table; without one nothing is printed. Raises CameraError, OutputError, BundleError,
    BackendError: at the start where something is missing, later where a replay or the ledger fails.
    """
    run_id, alarms = new_run_id(), Alarms()
    with ExitStack() as opened:
        ledger = Ledger(config.ledger.path, run_id)
        opened.callback(ledger.close)
        stops = config.station.on_ledger_failure == "stop"
        recorder = Recorder(ledger, open_archive(config.archive), alarms=alarms, stops=stops)
        station = make_station(config, recorder, run_id, alarms, stop)

        def show() -> None:
            if console is not None:
                opened.enter_context(LiveTable(station.summary, _heading(config, station), console, station.total))

        return station.run(on_ready=show)


def make_station(
    config: StationConfig, recorder: Recorder, run_id: str, alarms: Alarms, stop: Stop | None = None
) -> Station:
    """The station of a file, with nothing opened yet but its ledger."""
    written, config = config, _as_its_recipe_wants(config)
    cameras = config.all_cameras
    served: dict[str, list[CameraConfig]] = {}
    for camera in cameras:
        served.setdefault(_lane_of(config, camera), []).append(camera)
    first = config.station.recipe
    openers = partial(_openers, written)
    lanes = {name: LaneRecipes(_recipes(written, own), first, openers) for name, own in served.items()}
    station = Station(
        [_source(config, camera) for camera in cameras],
        {name: lane.open for name, lane in lanes.items()},
        recorder,
        run_id=run_id,
        alarms=alarms,
        stop=stop,
        tuning=Tuning(config.station.hang_s, config.station.batch_ms, config.station.drain_s),
        follower=_follower(config, recorder, alarms),
    )
    for name, lane in lanes.items():
        lane.bind(station.lane(name))
    if config.recipes:
        changer = Changer(
            list(lanes.values()),
            alarms.raised,
            partial(_swapped, recorder, alarms),
            lambda old, new: station.refit(openers(old, new)),
        )
        station.serve_recipes(changer)
    return station


def _as_its_recipe_wants(config: StationConfig) -> StationConfig:
    """The file with the changes of the first recipe in its cameras' tables."""
    changed = tuple(_set_for(config, config.station.recipe, camera) for camera in config.all_cameras)
    if config.camera is None:
        return config.model_copy(update={"cameras": changed})
    return config.model_copy(update={"camera": changed[0]})


def _set_for(config: StationConfig, name: str, camera: CameraConfig) -> CameraConfig:
    """A camera's table of the file, with what a recipe changes in it."""
    changes = config.all_recipes[name].camera
    return with_changes(camera, changes, f"recipes.{name}.camera") if changes else camera


def _openers(config: StationConfig, old: str, new: str) -> dict[str, Callable[[], Camera]]:
    """How to open the cameras whose settings differ between two recipes, by the camera's name."""
    if new not in config.all_recipes:  # told when it is loaded
        return {}
    tables = [(_set_for(config, old, camera), _set_for(config, new, camera)) for camera in config.all_cameras]
    return {after.name: partial(open_camera, after) for before, after in tables if after != before}


def _recipes(config: StationConfig, cameras: Sequence[CameraConfig]) -> Recipes:
    def refuse(name: str, recipe: RecipeConfig) -> None:
        for camera in cameras:
            running, wished = (_source(config, _set_for(config, one, camera)).source for one in (first, name))
            if other := [
                one.name for one in fields(running) if getattr(running, one.name) != getattr(wished, one.name)
            ]:
                raise RecipeError(
                    f"recipe {name} changes how the station serves camera {camera.name} ({', '.join(other)}), wanted"
                    f' that as it runs. Start the station with it: station.recipe = "{name}".'
                )

    first = config.station.recipe

    def inspectors(
        name: str, recipe: RecipeConfig, bundle: Bundle, backend: Backend, rule: Rule
    ) -> dict[str, Inspector]:
        return {
            camera.name: _inspector(config, name, recipe, camera, backend, rule, bundle.digest) for camera in cameras
        }

    def rule(recipe: RecipeConfig, threshold: float) -> Rule:
        return config.rule_of(recipe).rule(threshold)

    def look(recipe: RecipeConfig, camera: str) -> tuple[View, BoolMask | None]:
        view = config.view_of(camera, recipe)
        return view.view(), view.ignored()

    for recipe in config.all_recipes.values():  # a mask that cannot be read is told now, not at the change
        for camera in cameras:
            look(recipe, camera.name)
    return Recipes(config.all_recipes, inspectors, rule, refuse=refuse, look=look)


def _inspector(
    config: StationConfig,
    name: str,
    recipe: RecipeConfig,
    camera: CameraConfig,
    backend: Backend,
    rule: Rule,
    digest: str,
) -> Inspector:
    view = config.view_of(camera.name, recipe)
    return Inspector(
        backend,
        rule,
        backend.spec.sha256,
        any_size=recipe.any_size,
        view=view.view(),
        ignore=view.ignored(),
        camera=camera.name,
        recipe=name,
        bundle_digest=digest,
    )


def _follower(config: StationConfig, recorder: Recorder, alarms: Alarms) -> Follower:
    reject = config.parts.reject
    fifo = None
    if reject is not None:
        fifo = RejectFifo(
            reject.distance,
            reject.tolerance,
            counter_bits=config.parts.counter_bits,
            capacity=reject.capacity,
            max_step=reject.max_step,
            on_fault=partial(counter_told, alarms),
        )
    free = [camera.name for camera in config.all_cameras if trigger_of(camera) == "free"]
    return Follower(alarms, recorder.note, drift=config.drift, debounce=config.debounce, free=free, reject=fifo)


def counter_told(alarms: Alarms, where: str, why: str) -> None:
    """Alarm for a reject queue: the counter cannot be read at the "trigger" or the "rejecter"; why "": it can again."""
    if why:
        alarms.raised(f"counter at the {where}", f"{why} Nothing passes that it would have placed.")
    else:
        alarms.cleared(f"counter at the {where}", "it is read again")


def _swapped(recorder: Recorder, alarms: Alarms, loaded: Sequence[Loaded]) -> None:
    for told in dict.fromkeys(f"{one.recipe}: model {one.bundle_sha256[:12]}; {one.checked}" for one in loaded):
        recorder.note("recipe", told)
    alarms.cleared(ALARM, f"{loaded[0].recipe} judges")


def _source(config: StationConfig, camera: CameraConfig) -> StationSource:
    trigger = trigger_of(camera)
    replay = isinstance(camera, ReplayConfig)
    source = Source(
        camera.name,
        trigger,
        camera.policy or ("lossless" if replay or trigger != "free" else "latest"),
        camera.queue,
        _timeout_s(config, camera),
        camera.deadline_ms,
        camera.backoff_s,
        camera.trigger_interval_s,
        finite=replay,
    )
    parts = config.parts
    named = trigger == "software" and parts.identity != "trigger"
    names = Names(parts.identity, parts.remember, parts.counter_bits) if named else None
    return StationSource(source, partial(open_camera, camera), _lane_of(config, camera), names)


def _timeout_s(config: StationConfig, camera: CameraConfig) -> float:
    match camera:
        case AravisConfig():
            return camera.frame_timeout_s
        case RtspConfig():
            return camera.read_timeout_s
    return config.station.timeout_s


def _lane_of(config: StationConfig, camera: CameraConfig) -> str:
    return f"backend {camera.name}" if config.station.own_backends else "backend"


def _heading(config: StationConfig, station: Station) -> str:
    judges = station.lane(_lane_of(config, config.all_cameras[0])).judges
    if judges is None:
        return config.station.name
    spec = judges.backend.spec
    own = config.all_recipes[judges.recipe].threshold
    recipe = f"recipe {judges.recipe}, " if config.recipes else ""
    threshold = spec.threshold if own is None else own
    return f"{config.station.name}: {recipe}model {spec.sha256[:12]}, {judges.backend.name}, threshold {threshold:g}"
