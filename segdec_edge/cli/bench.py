"""segdec bench and predict: latency, cost and accuracy of one artefact in one row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdec_edge.cli.app import app, console
from segdec_edge.errors import ConfigError

if TYPE_CHECKING:
    from segdec_edge.bench.run import Progress


@app.command()
def bench(
    artefacts: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE…", help="Bundles, and checkpoints (.pt: the plain torch peer).")
    ],
    backends: Annotated[str, typer.Option(help="all, or some of tensorrt,openvino,onnxruntime,torch.")] = "all",
    precisions: Annotated[str, typer.Option(help="all, or some of fp32,fp16,int8,mixed, as the files are.")] = "all",
    batch: Annotated[str, typer.Option(help="Pictures at a time, as 1,4,8.")] = "1",
    size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH,…: of checkpoints; a bundle has its own.")] = None,
    data: Annotated[str | None, typer.Option(help="Data set: real pictures to time, and accuracy.")] = None,
    subset: Annotated[str, typer.Option(help="Its pictures that accuracy is measured on.")] = "test",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in which all take their turn.")] = 48,
    sittings: Annotated[int, typer.Option(min=1, help="Times that all are opened anew for a share of them.")] = 6,
    calls: Annotated[int, typer.Option(min=1, help="Timed calls in each turn, after one that is not timed.")] = 3,
    cold: Annotated[
        bool, typer.Option("--cold", help="Time the first call of each turn: caches full of the others' data.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the order in each round.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of one inference.")] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="Of each throughput window; 0 for none.")] = 1.0,
    peaks: Annotated[bool, typer.Option(help="Measure this machine's peaks for the roofline.")] = True,
    json: Annotated[Path | None, typer.Option("--json", help="Write the record, raw samples included.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the page.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write the tables for a README.")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="An earlier --json: exit 1 where something became worse by more than the noise.")
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0.0, help="Percent that may be lost between two runs.")] = 5.0,
    anyway: Annotated[bool, typer.Option("--anyway", help="Compare also other machines and artefacts.")] = False,
) -> None:
    """Time everything that this machine can run, in turns, and score it: one row an artefact, backend and batch.

    Exit 1 on a regression against --baseline.
    """
    from segdec_edge.bench.baseline import compare, require_comparable, require_rule, sittings_of
    from segdec_edge.bench.forms import Wish
    from segdec_edge.bench.machine import machine_of
    from segdec_edge.bench.page import bench_page
    from segdec_edge.bench.record import read_record, write_record
    from segdec_edge.bench.run import Job, run_bench
    from segdec_edge.bench.text import in_words
    from segdec_edge.bench.text import markdown as as_markdown
    from segdec_edge.data.spec import parse_size
    from segdec_edge.files import require_place, write_atomic

    wish = Wish(
        artefacts=tuple(artefacts),
        backends=_words(backends),
        precisions=_words(precisions),
        sizes=tuple(parse_size(word) for word in size.split(",")) if size else (),
    )
    job = Job(
        wish=wish,
        batches=_numbers(batch),
        data=data,
        subset=subset,
        rounds=rounds,
        sittings=sittings,
        calls=calls,
        cold=cold,
        seed=seed,
        threads=threads,
        window_s=seconds,
        peaks=peaks,
    )
    earlier = None if baseline is None else read_record(baseline)
    if baseline is not None and json is not None and json.resolve() == baseline.resolve():
        raise ConfigError(f"--json {json}: is the baseline, which it would replace. Choose another file.")
    if earlier is not None:
        require_rule(tolerance / 100, sittings_of(earlier), sittings)
    if earlier is not None and not anyway:
        require_comparable(earlier, machine_of(), threads, job.visit.untimed)
    for path in (json, html, markdown):
        if path is not None:
            require_place(path)
    with _progress() as progress:
        record = run_bench(job, progress=progress)
    if json is not None:
        write_record(json, record)
    if markdown is not None:
        write_atomic(markdown, as_markdown(record))
    if html is not None:
        write_atomic(html, bench_page(record))
    console.print(in_words(record), markup=False)
    if earlier is not None:
        found = compare(earlier, record, tolerance / 100, anyway)
        for words in found.in_words():
            console.print(words, markup=False)
        if found.regressed:
            raise typer.Exit(1)


@app.command()
def predict(
    bundle: Annotated[Path, typer.Argument(help="A bundle in any precision.")],
    board: Annotated[str, typer.Option(help="orin-nano-super, orin-nx-16, agx-orin-64, xavier-nx, agx-thor, …")],
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 1,
    seen: Annotated[
        list[Path] | None, typer.Option(help="Record of segdec bench from a machine with a GPU; more than once.")
    ] = None,
) -> None:
    """Say what latency to expect on a board that is not here, and how sure that is. Predicted, not measured."""
    from segdec_edge.bench.predict import board_named, in_words, seen_in
    from segdec_edge.bench.predict import predict as predicted
    from segdec_edge.bench.record import read_record
    from segdec_edge.bundle import read_bundle

    opened, chosen = read_bundle(bundle), board_named(board)
    own = seen_in([read_record(path) for path in seen or ()])
    console.print(in_words(opened, chosen, batch, predicted(opened, chosen, batch, own)), markup=False)


def _words(text: str) -> tuple[str, ...] | None:
    """None for all."""
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    return None if words == ("all",) or not words else words


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(word) for word in text.split(",")))
    except ValueError:
        raise ConfigError(f"--batch {text}, wanted numbers, as 1,4,8.") from None


@contextmanager
def _progress() -> Iterator[Progress]:
    """One bar over each phase on a terminal, a line a phase elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    from segdec_edge.bench.run import Progress

    class Lines(Progress):
        def phase(self, words: str, steps: int) -> None:
            console.print(words, markup=False)

    if not console.is_terminal:
        yield Lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task("")

        class Bar(Progress):
            def phase(self, words: str, steps: int) -> None:
                bars.reset(task, total=steps, description=words)

            def step(self) -> None:
                bars.advance(task)

        yield Bar()
