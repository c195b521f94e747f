"""A station.toml becomes a running station: cameras, ledger, backends and loop are opened and joined here only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from rich.console import Console

from segdec_edge.cameras import open_camera
from segdec_edge.config.camera import AravisConfig, CameraConfig, ReplayConfig, RtspConfig
from segdec_edge.config.station import StationConfig
from segdec_edge.outputs.archive import open_archive
from segdec_edge.outputs.ledger import Ledger
from segdec_edge.runtime import open_backend
from segdec_edge.station.alarms import Alarms
from segdec_edge.station.grab import Source
from segdec_edge.station.inspection import Inspector
from segdec_edge.station.judging import Judges
from segdec_edge.station.loop import Station
from segdec_edge.station.part import new_run_id
from segdec_edge.station.parts import Names
from segdec_edge.station.recorder import Recorder
from segdec_edge.station.setup import StationSource, Tuning
from segdec_edge.station.statistics import RunSummary
from segdec_edge.station.stop import Stop
from segdec_edge.station.table import LiveTable
from segdec_edge.types import Backend, ModelSpec

_log = logging.getLogger(__name__)


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
    cameras = config.all_cameras
    lanes: dict[str, list[CameraConfig]] = {}
    for camera in cameras:
        lanes.setdefault(_lane_of(config, camera), []).append(camera)
    tuning = Tuning(config.station.hang_s, config.station.batch_ms, config.station.drain_s)
    return Station(
        [_source(config, camera) for camera in cameras],
        {name: partial(open_judges, config, served) for name, served in lanes.items()},
        recorder,
        run_id=run_id,
        alarms=alarms,
        stop=stop,
        tuning=tuning,
    )


def open_judges(config: StationConfig, cameras: Sequence[CameraConfig]) -> Judges:
    """A warm backend of the file's bundle, and an inspector for each camera. Raises BundleError, BackendError,
    ConfigError.
    """
    backend = open_backend(config.station.bundle, config.station.backend)
    try:
        return Judges(backend, {camera.name: _inspector(config, camera, backend) for camera in cameras})
    except BaseException:
        backend.close()
        raise


def _inspector(config: StationConfig, camera: CameraConfig, backend: Backend) -> Inspector:
    view = config.view_of(camera.name)
    return Inspector(
        backend,
        config.rule.rule(_threshold(config, backend.spec)),
        backend.spec.sha256,
        any_size=config.station.any_size,
        view=view.view(),
        ignore=view.ignored(),
        camera=camera.name,
    )


def _source(config: StationConfig, camera: CameraConfig) -> StationSource:
    trigger = camera.trigger if isinstance(camera, AravisConfig) else "free"
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
    threshold = spec.threshold if config.station.threshold is None else config.station.threshold
    return f"{config.station.name}: model {spec.sha256[:12]}, {judges.backend.name}, threshold {threshold:g}"


def _threshold(config: StationConfig, spec: ModelSpec) -> float:
    own = config.station.threshold
    if own is None or own == spec.threshold:
        return spec.threshold
    _log.warning("threshold %g from the station's file overrides %g of the bundle", own, spec.threshold)
    return own
