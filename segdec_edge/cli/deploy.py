"""segdec export and threshold: a checkpoint becomes a bundle, and the bundle another threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segdec_edge.cli.app import app, console


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, ours or the authors'.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The bundle to write, as parts.bundle.")],
    size: Annotated[str | None, typer.Option(help="Input size, where a checkpoint does not say.")] = None,
    data: Annotated[str | None, typer.Option(help="Data set for the parity check; default: the trained one.")] = None,
    simplify: Annotated[bool, typer.Option(help="Simplify the graph with onnxsim.")] = True,
) -> None:
    """Turn a checkpoint into a bundle; refused unless it scores real pictures as torch does."""
    from segdec_edge.bundle import require_replaceable
    from segdec_edge.data.spec import parse_size
    from segdec_edge.deploy.export import export_checkpoint
    from segdec_edge.deploy.material import parity_pictures

    require_replaceable(out)
    pictures = parity_pictures(checkpoint, data)
    size_hw = parse_size(size) if size else None
    bundle = export_checkpoint(
        checkpoint, out, size_hw=size_hw, pictures=pictures, simplify=simplify, progress=console.print
    )
    model = bundle.meta.model
    console.print(
        f"{out}: {model.size_bytes / 1e6:.1f} MB, opset {model.opset}, model {model.sha256[:12]}", markup=False
    )
    if bundle.meta.parity is not None:
        console.print(f"{bundle.meta.parity.in_words()}", markup=False)


@app.command()
def threshold(
    bundle: Annotated[Path, typer.Argument(help="The bundle to change.")],
    value: Annotated[float, typer.Argument(help="From 0 to 1; a part is defective from this score on.")],
    why: Annotated[str, typer.Option(help="The reason, for the bundle's log.")],
) -> None:
    """Give a bundle another threshold; what it was, when and why stay in its log."""
    from segdec_edge.bundle import read_bundle, set_threshold

    old = read_bundle(bundle).meta.threshold.value
    new = set_threshold(bundle, value, why).meta.threshold.value
    console.print(f"{bundle}: threshold {old:.6g} is now {new:.6g}; {why}", markup=False)
