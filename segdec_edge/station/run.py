"""A station.toml becomes a running station: camera, ledger, backend and loop are opened and joined here only."""

from __future__ import annotations

import logging
from contextlib import ExitStack

from rich.console import Console

from segdec_edge.cameras import open_camera
from segdec_edge.config.station import StationConfig
from segdec_edge.decision import Rule
from segdec_edge.outputs.archive import open_archive
from segdec_edge.outputs.ledger import Ledger
from segdec_edge.runtime import open_backend
from segdec_edge.station.inspection import Inspector
from segdec_edge.station.loop import new_run_id, run_station
from segdec_edge.station.recorder import Recorder
from segdec_edge.station.statistics import RunSummary, Statistics
from segdec_edge.station.stop import Stop
from segdec_edge.station.table import LiveTable
from segdec_edge.types import ModelSpec

_log = logging.getLogger(__name__)


def run(config: StationConfig, console: Console | None = None, stop: Stop | None = None) -> RunSummary:
    """Run a station to its camera's end, or until Ctrl-C, SIGTERM or `stop`; every verdict is in the ledger then.

    console shows the live table; without one nothing is printed. Raises CameraError, OutputError, BundleError,
    BackendError: at the start where something is missing, later where the camera or the ledger fails.
    """
    run_id = new_run_id()
    with ExitStack() as opened:
        # What fails at once comes first: compiling a model takes seconds.
        camera = opened.enter_context(open_camera(config.camera))
        ledger = Ledger(config.ledger.path, run_id)
        opened.callback(ledger.close)
        backend = open_backend(config.station.bundle, config.station.backend)
        opened.callback(backend.close)
        rule = _rule(config, backend.spec)
        recorder = Recorder(ledger, open_archive(config.archive))
        statistics = Statistics(run_id)
        if console is not None:
            heading = (
                f"{config.station.name}: model {backend.spec.sha256[:12]}, {backend.name}, threshold {rule.threshold:g}"
            )
            figures = statistics.summary
            opened.enter_context(LiveTable(lambda: figures(recorder.archive_failures), heading, console, camera.total))
        inspector = Inspector(backend, rule, backend.spec.sha256, any_size=config.station.any_size)
        return run_station(
            camera,
            inspector,
            recorder,
            run_id=run_id,
            timeout_s=config.station.timeout_s,
            statistics=statistics,
            stop=stop,
        )


def _rule(config: StationConfig, spec: ModelSpec) -> Rule:
    own = config.station.threshold
    if own is None or own == spec.threshold:
        return Rule(spec.threshold)
    _log.warning("threshold %g from the station's file overrides %g of the bundle", own, spec.threshold)
    return Rule(own)
