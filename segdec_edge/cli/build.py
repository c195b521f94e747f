"""segdec build: a bundle becomes a TensorRT engine."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdec_edge.cli.app import app, console
from segdec_edge.errors import ConfigError

if TYPE_CHECKING:
    from segdec_edge.deploy.builder import Batches

_UNITS = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


@app.command()
def build(
    bundle: Annotated[Path, typer.Argument(help="The bundle; the engine goes into its folder engines.")],
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16 or int8; default: what the bundle's graph is.")
    ] = None,
    target: Annotated[
        str, typer.Option(help="current, or with TensorRT-RTX another GPU: sm75, sm86, sm89, sm120, …")
    ] = "current",
    dla: Annotated[int | None, typer.Option(min=0, help="Build for this DLA core.")] = None,
    batch: Annotated[
        str | None, typer.Option(help="Least, best and most pictures at a time, as 1,4,8; or one size, as 1.")
    ] = None,
    workspace: Annotated[str, typer.Option(help="Memory for TensorRT's trials, as 512MiB.")] = "1GiB",
    calibration: Annotated[
        Path | None, typer.Option(help="Manifest of training pictures: INT8 on DLA and TensorRT 8.6.")
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Also for later TensorRT of the same major version.")
    ] = False,
    strip: Annotated[bool, typer.Option("--strip", help="Without weights; filled in from model.onnx.")] = False,
    data: Annotated[
        str | None, typer.Option(help="Data set: score the engine on its held-out pictures, if it runs here.")
    ] = None,
    max_ap_drop: Annotated[float, typer.Option(min=0.0, help="Points of AP and of recall that it may lose.")] = 0.1,
) -> None:
    """Build a TensorRT engine, with a file beside it that says where it runs."""
    from segdec_edge.bundle import read_bundle
    from segdec_edge.deploy.build_progress import TerminalMonitor
    from segdec_edge.deploy.engine import build_engine

    opened = read_bundle(bundle)
    check = None
    if data is not None:
        if target != "current":
            raise ConfigError(f"--data judges an engine on the GPU that is here, got --target {target}. Leave one out.")
        from segdec_edge.deploy.gate import exam_for
        from segdec_edge.deploy.plan_check import plan_check

        check = plan_check(
            opened,
            exam_for(opened, data),
            max_ap_drop=max_ap_drop,
            say=lambda line: console.print(line, markup=False),
        )
    with ExitStack() as stack:
        pictures = None
        if calibration is not None:
            from segdec_edge.deploy.calibration import read_manifest
            from segdec_edge.deploy.calibrator import Calibration
            from segdec_edge.runtime.gpu import Upload

            chosen = read_manifest(calibration, opened)
            upload = stack.enter_context(Upload())
            pictures = Calibration(chosen.pixels(), chosen.sha256, calibration.parent, upload)
        plan = build_engine(
            opened,
            precision=precision,
            target=target,
            dla=dla,
            batches=_batches(batch) if batch else None,
            workspace_bytes=_bytes(workspace),
            version_compatible=version_compatible,
            strip=strip,
            calibration=pictures,
            monitor=stack.enter_context(TerminalMonitor(console)),
            check=check,
        )
    facts = plan.facts
    console.print(
        f"{plan.path}: {facts.plan_bytes / 1e6:.1f} MB, {facts.precision}, batch"
        f" {facts.batches[0]} to {facts.batches[2]}, {facts.build_seconds:.0f} s; {facts.checked}",
        markup=False,
    )


def _batches(text: str) -> Batches:
    """1,4,8 → least, best, most; 4 → all the same."""
    try:
        sizes = [int(word) for word in text.split(",")]
    except ValueError:
        sizes = []
    if len(sizes) == 1:
        sizes *= 3
    if len(sizes) != 3:
        raise ConfigError(f"--batch {text}, wanted one number or three: least, best and most, as 1,4,8.")
    return sizes[0], sizes[1], sizes[2]


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]iB|B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise ConfigError(f"--workspace {text}, wanted a size, as 512MiB or 1GiB.")
    return int(float(found[1]) * _UNITS[(found[2] or "").upper()])
