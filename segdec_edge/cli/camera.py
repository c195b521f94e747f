"""segdec camera list, show and snap."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segdec_edge.cli.app import app, console, errors

camera_app = typer.Typer(no_args_is_help=True, help="Find cameras, see what they offer, take a picture.")
app.add_typer(camera_app, name="camera")

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="A station.toml: its [camera] says which camera, and how it is set."),
]


@camera_app.command("list")
def list_() -> None:
    """List the cameras that answer: GigE Vision, USB3 Vision, V4L2."""
    from rich.table import Table

    from segdec_edge.cameras.listing import list_cameras

    found, problems = list_cameras()
    table = Table("kind", "device", "model", "serial", "address")
    for one in found:
        table.add_row(one.kind, one.device, one.model, one.serial, one.address)
    if found:
        console.print(table)
    else:
        console.print("no camera answers")
    for problem in problems:
        errors.print(f"segdec: {problem}", markup=False)


@camera_app.command()
def show(
    device: Annotated[str | None, typer.Argument(help="Id, serial number or address; none: the only one.")] = None,
) -> None:
    """Show what a GigE or USB3 Vision camera is and offers, in the words of station.toml. Changes nothing."""
    from rich.table import Table

    from segdec_edge.cameras.aravis_features import features

    table = Table(show_header=False)
    for name, value in features(device):
        table.add_row(name, value)
    console.print(table)


@camera_app.command()
def snap(
    out: Annotated[Path, typer.Option("--out", "-o", help="The PNG to write.")] = Path("snap.png"),
    device: Annotated[str | None, typer.Argument(help="A GigE or USB3 Vision camera; none: the only one.")] = None,
    config: Config = None,
    camera: Annotated[str | None, typer.Option(help="Which of the file's cameras; none: the first.")] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait for a picture.")] = 5.0,
) -> None:
    """Take one picture, as a station would get it, into a PNG file."""
    from segdec_edge.cameras.snap import snap as take
    from segdec_edge.config.camera import AravisConfig
    from segdec_edge.config.station import load_station
    from segdec_edge.errors import ConfigError

    if config is not None and device is not None:
        raise ConfigError("a device and --config, wanted one of them. Leave one out.")
    table = AravisConfig(kind="aravis", device=device) if config is None else load_station(config).camera_named(camera)
    frame = take(table, out, timeout_s)
    height, width = frame.pixels.shape[:2]
    console.print(f"{out}: {width}x{height} from {frame.source}", markup=False)
