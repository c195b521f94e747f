"""segdec import-checkpoint and export-checkpoint: the authors' weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segdec_edge.cli.app import app, console
from segdec_edge.cli.train import print_evaluation
from segdec_edge.errors import ConfigError


@app.command("import-checkpoint")
def import_checkpoint(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint of the authors' implementation.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Our checkpoint to write, as kolektor.pt.")],
    data: Annotated[str | None, typer.Option(help="The data set it was trained on: evaluate it there.")] = None,
    fold: Annotated[int | None, typer.Option(help="Published fold it was trained on.")] = None,
    items: Annotated[int | None, typer.Option(help="Published training set of so many items.")] = None,
    splits: Annotated[
        Path | None, typer.Option(help="Published splits.json or .pyb, if not beside the pictures.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Input size it was trained at, HEIGHTxWIDTH.")] = None,
    report: Annotated[Path | None, typer.Option(help="Folder for the report; default: beside --out.")] = None,
) -> None:
    """Take over trained weights; with --data pick a threshold on its training pictures and evaluate the test ones."""
    from segdec_edge.data.spec import parse_size
    from segdec_edge.deploy.exchange import TrainedOn, import_checkpoint

    trained_on = TrainedOn(data, fold, items, splits) if data else None
    if trained_on is None and (fold, items, splits, report) != (None, None, None, None):
        raise ConfigError("--fold, --items, --splits and --report belong to --data. Give it, or omit them.")
    size_hw = parse_size(size) if size else None
    checkpoint, run = import_checkpoint(
        source, out, size_hw=size_hw, trained_on=trained_on, report=report, say=console.print
    )
    net = checkpoint.net
    console.print(
        f"{out}: {net.in_channels} channel(s), width {net.width:g}, from {checkpoint.sha256[:12]}", markup=False
    )
    if run is not None:
        print_evaluation(run)


@app.command("export-checkpoint")
def export_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint of width 1, norm feature.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, as kolektor.pth.")],
) -> None:
    """Write weights, bit for bit, as a state_dict that the authors' implementation loads."""
    from segdec_edge.deploy.exchange import export_authors

    console.print(f"{out}: {export_authors(checkpoint, out)} tensors", markup=False)
