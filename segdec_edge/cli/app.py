"""What every command shares: the app they register on, the two consoles, and --set."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from rich.console import Console

from segdec_edge import __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a folder of pictures with rough masks to a station that flags defective parts.",
)
data_app = typer.Typer(no_args_is_help=True, help="Look at data sets and their splits.")
app.add_typer(data_app, name="data")

console = Console(soft_wrap=True, highlight=False)
errors = Console(stderr=True, soft_wrap=True, highlight=False)


def speaking_console() -> Console:
    """The console, a silent one in all but the first of the processes that torchrun started."""
    speaks = os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK") == "0"
    return console if speaks else Console(quiet=True)


Spec = Annotated[
    str,
    typer.Argument(help="kind:PATH (folder, kolektor, kolektor2, dagm, severstal, magnetic) or synthetic:seed=0,n=200"),
]


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        console.print(__version__)
        raise typer.Exit


def changes_of(changes: list[str] | None) -> dict[str, Any]:
    from segdec_edge.config.load import parse_toml

    merged: dict[str, Any] = {}
    for change in changes or []:
        merged |= parse_toml(change, f"--set {change}")
    return merged
