"""segdec reproduce: the paper's tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segdec_edge.cli.app import app, changes_of, speaking_console
from segdec_edge.errors import ConfigError


@app.command()
def reproduce(
    table: Annotated[str, typer.Argument(help="I, II, III, IV or V of the paper.")],
    data: Annotated[str, typer.Option(help="Its data set, as kolektor:PATH; III and V take any.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the trainings, results.json and table.md.")],
    rows: Annotated[str | None, typer.Option(help="Only these rows, with commas.")] = None,
    variants: Annotated[
        str,
        typer.Option(
            help="ours, authors, text, drawn, batch-norm, averaged, mirrored, pasted, augmented, improved,"
            " mirrored-text, augmented-text."
        ),
    ] = "ours",
    folds: Annotated[str | None, typer.Option(help="Only these folds, as 0,1; of DAGM these classes.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, as 1337,1338.")] = "1337",
    size: Annotated[str | None, typer.Option(help="Another input size, HEIGHTxWIDTH.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None,
    change: Annotated[list[str] | None, typer.Option("--set", help="Any setting that no row or variant sets.")] = None,
    side_by_side: Annotated[int, typer.Option(help="Trainings at a time; 0: as many as fit on the GPU.")] = 1,
    summary: Annotated[bool, typer.Option("--summary", help="Train nothing; tell from the results there are.")] = False,
) -> None:
    """Train and measure a table of the paper; an interrupted one goes on where it stopped."""
    from segdec_edge.reproduce.run import Asked, reproduce_table

    changes = (
        changes_of(change) | ({"device": device} if device else {}) | ({"precision": precision} if precision else {})
    )
    if size:
        from segdec_edge.data.spec import parse_size

        changes["size_hw"] = list(parse_size(size))
    asked = Asked(
        table=table,
        data=data,
        output=out,
        rows=_names(rows),
        variants=_names(variants) or (),
        folds=_numbers("folds", folds),
        seeds=_numbers("seeds", seeds) or (),
        changes=changes,
    )
    speaking = speaking_console()
    speaking.print(reproduce_table(asked, speaking, None if summary else side_by_side), markup=False)


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    try:
        return None if text is None else tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--{option} {text!r}, wanted numbers with commas, as 0,1,2.") from error
