"""segdec calibrate, quantize and sensitivity: a bundle in INT8, FP16 or a mixture that keeps its accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdec_edge.cli.app import app, console

if TYPE_CHECKING:
    from segdec_edge.deploy.quantize import Int8


class Precision(str, Enum):
    int8 = "int8"
    fp16 = "fp16"


class Calibrator(str, Enum):
    minmax = "minmax"
    entropy = "entropy"
    percentile = "percentile"
    mse = "mse"


class Activations(str, Enum):
    int8 = "int8"
    uint8 = "uint8"


class Rest(str, Enum):
    fp16 = "fp16"
    fp32 = "fp32"


BundleArgument = Annotated[Path, typer.Argument(help="An FP32 bundle, as segdec export or fold wrote it.")]
Manifest = Annotated[
    Path | None, typer.Option(help="Calibration pictures; default: calibration/NAME.toml, made where missing.")
]
Data = Annotated[
    str | None,
    typer.Option(help="The data set it was trained on; default: the manifest's, or the one that the bundle names."),
]
CalibratorOption = Annotated[Calibrator, typer.Option(help="How a range is read off the measured values.")]
ActivationsOption = Annotated[
    Activations, typer.Option(help="int8 for TensorRT and OpenVINO, uint8 for onnxruntime on x86-64.")
]
RestOption = Annotated[Rest, typer.Option(help="What layers outside INT8 become.")]
MaxDrop = Annotated[float, typer.Option(min=0.0, help="Points of AP and of recall that may be lost; 0.1 is 0.001.")]
BackendOption = Annotated[str, typer.Option(help="Runtime that judges: auto, onnxruntime or openvino.")]


@app.command()
def calibrate(
    bundle: BundleArgument,
    data: Annotated[str, typer.Option(help="The data set it was trained on, as kolektor:PATH.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The manifest to write, as calibration/parts.toml.")],
    count: Annotated[int | None, typer.Option(help="Pictures, at least 16; default 32, or all.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random half.")] = 0,
    all_training: Annotated[
        bool, typer.Option("--all-training", help="The bundle holds no split: none of the pictures is evaluated on.")
    ] = False,
) -> None:
    """Choose the training pictures that INT8 calibration uses, and write which they are, each with its hash."""
    from segdec_edge.bundle import read_bundle
    from segdec_edge.deploy.calibration import write_manifest

    made = write_manifest(out, read_bundle(bundle), data, count=count, seed=seed, all_training=all_training)
    defective = sum(picture.defective for picture in made.pictures)
    console.print(
        f"{out}: {len(made.pictures)} of {made.chosen.of} training pictures, {defective} defective", markup=False
    )


@app.command()
def quantize(
    bundle: BundleArgument,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default: NAME-int8.bundle beside it.")] = None,
    precision: Annotated[Precision, typer.Option(help="Of the convolutions.")] = Precision.int8,
    manifest: Manifest = None,
    data: Data = None,
    calibrator: CalibratorOption = Calibrator.minmax,
    activations: ActivationsOption = Activations.int8,
    exclude: Annotated[str, typer.Option(help="Layers to leave out of INT8, as volume.0,seg_mask.")] = "",
    rest: RestOption = Rest.fp16,
    mixed: Annotated[bool, typer.Option("--mixed", help="Measure every layer and leave out as few as needed.")] = False,
    max_ap_drop: MaxDrop = 0.1,
    backend: BackendOption = "auto",
    recalibrate: Annotated[bool, typer.Option("--recalibrate", help="Measure the ranges anew.")] = False,
) -> None:
    """Bring a bundle to INT8 or FP16; refused where it loses more accuracy on held-out pictures than allowed."""
    from segdec_edge.deploy.quantize_run import Job, quantize_bundle

    options = _options(calibrator, activations, rest, exclude)
    job = Job(
        bundle=bundle,
        out=out,
        precision=precision.value,
        manifest=manifest,
        data=data,
        options=options,
        mixed=mixed,
        max_ap_drop=max_ap_drop,
        backend=backend,
        recalibrate=recalibrate,
    )
    with _progress() as progress:
        done = quantize_bundle(job, say=lambda line: console.print(line, markup=False), progress=progress)
    model = done.bundle.meta.model
    console.print(done.found.in_words(), markup=False)
    console.print(f"{done.bundle.path}: {model.precision}, {model.size_bytes / 1e6:.1f} MB", markup=False)


@app.command()
def sensitivity(
    bundle: BundleArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; default: NAME-sensitivity beside it.")
    ] = None,
    manifest: Manifest = None,
    data: Data = None,
    calibrator: CalibratorOption = Calibrator.minmax,
    activations: ActivationsOption = Activations.int8,
    rest: RestOption = Rest.fp16,
    max_ap_drop: MaxDrop = 0.1,
    parts: Annotated[int, typer.Option(min=2, help="At most so many pictures, the most telling ones.")] = 200,
    backend: BackendOption = "auto",
) -> None:
    """Score every layer alone in INT8 and choose the fewest to leave out; goes on where an interrupted run stopped."""
    from segdec_edge.deploy.quantize_run import find_sensitivity
    from segdec_edge.deploy.sensitivity import Asked
    from segdec_edge.deploy.sensitivity_report import verdict

    folder = out or bundle.with_name(f"{bundle.name.removesuffix('.bundle')}-sensitivity")
    asked = Asked(_options(calibrator, activations, rest, ""), max_ap_drop, parts, backend)
    with _progress() as progress:
        found, table, plot = find_sensitivity(
            bundle, manifest, data, folder, asked, lambda line: console.print(line, markup=False), progress
        )
    console.print(verdict(found), markup=False)
    console.print(f"{table}\n{plot}", markup=False)
    if found.left_out is not None:
        wishes = {
            "--manifest": manifest,
            "--data": data,
            "--calibrator": calibrator.value if calibrator is not Calibrator.minmax else None,
            "--activations": activations.value if activations is not Activations.int8 else None,
            "--rest": rest.value if rest is not Rest.fp16 else None,
            "--backend": backend if backend != "auto" else None,
            "--exclude": ",".join(found.left_out) or None,
        }
        words = [f"{name} {value}" for name, value in wishes.items() if value is not None]
        console.print(" ".join([f"Next: segdec quantize {bundle}", *words]), markup=False)


def _options(calibrator: Calibrator, activations: Activations, rest: Rest, exclude: str) -> Int8:
    from segdec_edge.deploy.quantize import Int8

    names = tuple(name.strip() for name in exclude.split(",") if name.strip())
    return Int8(calibrator.value, activations.value, names, rest.value)


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None]]:
    """A bar on a terminal, a line an evaluation elsewhere."""
    from rich.progress import Progress

    if not console.is_terminal:
        yield lambda done, total, text: console.print(f"{done} of about {total}: {text}", markup=False)
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("layers", total=None, visible=False)

        def tell(done: int, total: int, text: str) -> None:
            bar.update(task, completed=done, total=total, description=text, visible=True)

        yield tell
