"""segdec run, doctor and demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segdec_edge.cli.app import app, console


@app.command()
def run(config: Annotated[Path, typer.Argument(help="station.toml")]) -> None:
    """Run a station until its camera ends, Ctrl-C or SIGTERM; every part gets one row in the ledger."""
    from segdec_edge.config.station import load_station
    from segdec_edge.station.log_aside import LEAVE_S, log_aside
    from segdec_edge.station.run import run as run_station

    settings = load_station(config)
    with log_aside(leave_s=LEAVE_S):
        run_station(settings, console)


@app.command()
def doctor() -> None:
    """Tell what this machine can do, and which command adds what is missing."""
    from segdec_edge.doctor import examine, render

    console.print(render(examine()), markup=False)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything the demo makes.")] = Path("demo"),
) -> None:
    """Make parts, train, evaluate, export and run a station over unseen parts, in one folder."""
    from segdec_edge.demo import run_demo

    run_demo(out, console)
