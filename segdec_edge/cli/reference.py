"""segdec reference and profile: what a station compares a bundle, and then what it sees, with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segdec_edge.cli.app import app, console

_Data = Annotated[str | None, typer.Option(help="Data set; default: the one it was trained on.")]
_Backend = Annotated[str, typer.Option(help="auto, tensorrt, onnxruntime or openvino.")]


@app.command()
def reference(
    bundle: Annotated[Path, typer.Argument(help="The bundle; the pictures go into its folder reference.")],
    data: _Data = None,
    count: Annotated[int, typer.Option("-n", "--count", min=2, help="So many pictures, half of them defective.")] = 8,
    subset: Annotated[str | None, typer.Option(help="validation, train, or all of another data set.")] = None,
    tolerance: Annotated[
        float | None, typer.Option(min=1e-6, max=0.5, help="How far a score may be off; default: by precision.")
    ] = None,
    backend: _Backend = "auto",
) -> None:
    """Keep pictures with their scores in a bundle, so that a station checks it on them before it judges any part."""
    from segdec_edge.deploy.reference import make_reference

    made = make_reference(bundle, data, count=count, subset=subset, tolerance=tolerance, backend=backend)
    defective = sum(one.label == "DEFECT" for one in made.pictures)
    console.print(
        f"{bundle}: {len(made.pictures)} {made.subset} pictures ({defective} defective) as reference, scores within"
        f" {made.tolerance:g} ({made.backend})",
        markup=False,
    )


@app.command()
def profile(
    bundle: Annotated[Path, typer.Argument(help="The bundle; the profile goes into its meta.json.")],
    data: _Data = None,
    subset: Annotated[
        str | None, typer.Option(help="validation, train, test or all; default: validation, or train without one.")
    ] = None,
    backend: _Backend = "auto",
) -> None:
    """Note how scores and brightness of known pictures are spread: the station watches for drift away from that."""
    from segdec_edge.deploy.reference import make_profile

    made = make_profile(bundle, data, subset=subset, backend=backend)
    console.print(f"{bundle}: profile of {made.in_words()}", markup=False)
