"""segdec fold and compress: the same network in fewer operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from segdec_edge.cli.app import app, console

Source = Annotated[Path, typer.Argument(metavar="BUNDLE", help="It is never changed.")]
Data = Annotated[str | None, typer.Option(help="The data set it was trained on, where it lies elsewhere now.")]
Pictures = Annotated[int, typer.Option(min=1, help="Training pictures to fit on, chosen for their spread.")]
Steps = Annotated[int, typer.Option(min=0, help="Steps of distillation afterwards; 0 for none.")]
Rate = Annotated[float, typer.Option(min=0.0, help="Learning rate of the distillation.")]
Subset = Annotated[str, typer.Option(help="Pictures that the gate judges on.")]
MaxDrop = Annotated[float, typer.Option(min=0.0, help="Points of AP and of recall that may be lost; 0.1 is 0.001.")]
BackendName = Annotated[str, typer.Option(help="Runtime that judges: auto, onnxruntime or openvino.")]


@app.command()
def fold(
    bundle: Source,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default: NAME-folded.bundle beside it.")] = None,
    data: Data = None,
    pictures: Pictures = 32,
    keep: Annotated[
        str, typer.Option(help="Layers whose norm stays; none for DLA.")
    ] = "seg_mask,extractor.1,extractor.3,extractor.5",
    standardise: Annotated[bool, typer.Option(help="Bring each picture to the training brightness.")] = True,
    recalibrate: Annotated[bool, typer.Option(help="Constants by least squares, else mean statistics.")] = True,
    steps: Steps = 0,
    rate: Rate = 3e-4,
    light: Annotated[bool, typer.Option(help="Report both under changed brightness and contrast.")] = True,
    subset: Subset = "test",
    max_ap_drop: MaxDrop = 0.1,
    backend: BackendName = "auto",
) -> None:
    """Replace FeatureNorm by constants and fold them into the convolutions; refused where accuracy is lost."""
    from segdec_edge.deploy.distil import Recipe
    from segdec_edge.deploy.fold_run import FoldJob, fold_bundle
    from segdec_edge.deploy.lighting import table_of

    job = FoldJob(
        bundle=bundle,
        out=out or _beside(bundle, "folded"),
        data=data,
        pictures=pictures,
        keep=() if keep == "none" else tuple(name.strip() for name in keep.split(",") if name.strip()),
        standardise=standardise,
        recalibrate=recalibrate,
        recipe=Recipe(steps=steps, rate=rate),
        subset=subset,
        max_ap_drop=max_ap_drop,
        backend=backend,
    )
    with _distillation() as progress:
        done = fold_bundle(job, _say, progress, other_light=light)
    if done.lighting:
        console.print(table_of(done.lighting), markup=False)
    console.print(f"{job.out}: {done.comparison.in_words()}", markup=False)


@app.command()
def compress(
    bundle: Source,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default: NAME-compressed.bundle beside it.")] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="Bundle to distil from, as the unfolded one; default: the one given.")
    ] = None,
    data: Data = None,
    pictures: Pictures = 32,
    share: Annotated[
        float | None, typer.Option(min=0.001, max=1.0, help="Of the operations; default: the smallest that passes.")
    ] = None,
    steps: Steps = 600,
    rate: Rate = 3e-4,
    subset: Subset = "test",
    max_ap_drop: MaxDrop = 0.1,
    backend: BackendName = "auto",
) -> None:
    """Factorise the convolutions of a folded bundle by their outputs; refused where accuracy is lost."""
    from segdec_edge.deploy.compress_run import CompressJob, compress_bundle
    from segdec_edge.deploy.distil import Recipe

    job = CompressJob(
        bundle=bundle,
        out=out or _beside(bundle, "compressed"),
        teacher=teacher,
        data=data,
        pictures=pictures,
        share=share,
        recipe=Recipe(steps=steps, rate=rate),
        subset=subset,
        max_ap_drop=max_ap_drop,
        backend=backend,
    )
    with _distillation() as progress:
        done = compress_bundle(job, _say, progress)
    fewer = done.before / done.after
    console.print(f"{done.before / 1e9:.1f} → {done.after / 1e9:.1f} GFLOP a picture, {fewer:.1f} times fewer")
    console.print(f"{job.out}: {done.comparison.in_words()}", markup=False)


@app.command()
def optimize(
    bundle: Source,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default: NAME-optimized.bundle beside it.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder of the candidates; default: NAME-optimize beside it.")
    ] = None,
    data: Data = None,
    max_ap_drop: MaxDrop = 0.1,
    target_ms: Annotated[float | None, typer.Option(min=0.0, help="Wanted time a picture on this machine.")] = None,
    steps: Steps = 600,
    rate: Rate = 3e-4,
    subset: Subset = "test",
    backend: BackendName = "auto",
) -> None:
    """Fold, compress and quantize in one go: the fastest candidate that keeps its accuracy, and a page of all of them.

    An interrupted run goes on where it stopped.
    """
    from segdec_edge.deploy.distil import Recipe
    from segdec_edge.deploy.optimize import OptimizeJob, optimize_bundle
    from segdec_edge.deploy.optimize_page import optimize_page
    from segdec_edge.files import write_atomic

    stem = bundle.name.removesuffix(".bundle")
    job = OptimizeJob(
        bundle=bundle,
        out=out or _beside(bundle, "optimized"),
        work=work or bundle.with_name(f"{stem}-optimize"),
        data=data,
        max_ap_drop=max_ap_drop,
        target_ms=target_ms,
        backend=backend,
        subset=subset,
        recipe=Recipe(steps=steps, rate=rate),
    )
    with _distillation() as progress:
        done = optimize_bundle(job, _say, progress)
    page = job.work / "optimize.html"
    write_atomic(page, optimize_page(job, done))
    ms, runtime = done.winner.fastest
    console.print(f"{page}", markup=False)
    if done.winner.name == "original":
        console.print("nothing faster keeps its accuracy: the bundle is written as it is", markup=False)
    console.print(f"{job.out}: {done.winner.name}, {ms:.1f} ms on {runtime}, {done.times_faster:.1f} times faster")
    if target_ms is not None and ms > target_ms:
        console.print(f"the target of {target_ms:g} ms is not reached; the fastest that keeps its accuracy is written")
        raise typer.Exit(1)
    console.print(f"Next: segdec build {job.out}", markup=False)


def _beside(bundle: Path, word: str) -> Path:
    return bundle.with_name(f"{bundle.name.removesuffix('.bundle')}-{word}.bundle")


def _say(line: str) -> None:
    console.print(line, markup=False)


@contextmanager
def _distillation() -> Iterator[Callable[[int, int, float], None]]:
    """A bar on a terminal, every hundredth step as a line elsewhere."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    def line(done: int, of: int, loss: float) -> None:
        if done % 100 == 0 or done == of:
            _say(f"distilling: {done} of {of}, loss {loss:.4f}")

    if not console.is_terminal:
        yield line
        return
    columns = (
        TextColumn("distilling"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[loss]}"),
    )
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", visible=False, loss="")

        def move(done: int, of: int, loss: float) -> None:
            bar.update(task, completed=done, total=of, visible=done < of, loss=f"loss {loss:.4f}")

        yield move
