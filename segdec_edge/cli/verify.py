"""segdec verify: whether all forms of a network score alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segdec_edge.cli.app import app, console


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="Compared on every runtime that loads it here.")],
    against: Annotated[
        list[Path] | None,
        typer.Option(help="The checkpoint or the bundle it was made from; more than once; the first is the reference."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Pictures; default: the held-out ones of the trained set.")] = None,
    pictures: Annotated[int, typer.Option(min=1, help="So many, half of them defective.")] = 8,
    limit: Annotated[
        float | None, typer.Option(min=0.0, help="Largest difference of a score; default: by precision.")
    ] = None,
    heatmap_limit: Annotated[
        float | None, typer.Option(min=0.0, help="Mean difference of the heat maps; default: by precision.")
    ] = None,
    layer_limit: Annotated[
        float | None, typer.Option(min=0.0, help="Relative error of a layer; default: by precision.")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Compare layer by layer also where all is well.")] = False,
) -> None:
    """Compare torch, ONNX and every runtime on real pictures; where they differ, name the first layer that does.

    Exit 1 past a limit.
    """
    from segdec_edge.deploy.verify import Job, verify
    from segdec_edge.deploy.verify_text import in_words

    job = Job(bundle, tuple(against or ()), data, pictures, limit, heatmap_limit, layer_limit, layers)
    report = verify(job, say=lambda line: console.print(line, markup=False))
    console.print(in_words(report), markup=False)
    if report.exceeded:
        raise typer.Exit(1)
