"""The command line: parse, call, print. The only place that catches SegdecError; loads no heavy module by itself."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler

from segdec_edge import __version__
from segdec_edge.errors import ConfigError, PeerStopped, SegdecError

if TYPE_CHECKING:
    from segdec_edge.config.train import TrainSettings
    from segdec_edge.evaluation.run import EvaluationRun

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a folder of pictures with rough masks to a station that flags defective parts.",
)
data_app = typer.Typer(no_args_is_help=True, help="Look at data sets and their splits.")
app.add_typer(data_app, name="data")

_out = Console(soft_wrap=True, highlight=False)
_errors = Console(stderr=True, soft_wrap=True, highlight=False)

Spec = Annotated[
    str,
    typer.Argument(help="kind:PATH (folder, kolektor, kolektor2, dagm, severstal, magnetic) or synthetic:seed=0,n=200"),
]


def main() -> None:
    """Entry point: exit 0, or 1 with one clear line per mistake; 2 for a wrong command line (typer)."""
    # Through rich, so that a warning does not tear the station's live table.
    # In a log file rich would cut a line at 80 columns.
    rich = RichHandler(console=_errors, show_time=False, show_path=False, rich_tracebacks=False)
    handler = rich if _errors.is_terminal else logging.StreamHandler()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    try:
        app()
    except PeerStopped:
        sys.exit(1)
    except SegdecError as error:
        for line in str(error).splitlines():
            _errors.print(f"segdec: {line}", markup=False)
        sys.exit(1)
    except ModuleNotFoundError as error:
        hint = _extra_for(error.name or "")
        if hint is None:
            raise
        _errors.print(f"segdec: {error.name} is not installed. Add it: pip install 'segdec-edge[{hint}]'", markup=False)
        sys.exit(1)


def _extra_for(module: str) -> str | None:
    needs_train = {"torch", "scipy", "sklearn", "onnx", "onnxsim", "matplotlib", "tensorboard"}
    return "train" if module.split(".")[0] in needs_train else None


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        _out.print(__version__)
        raise typer.Exit


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything the demo makes.")] = Path("demo"),
) -> None:
    """Make parts, train, evaluate, export and run a station over unseen parts, in one folder."""
    from segdec_edge.demo import run_demo

    run_demo(out, _out)


@data_app.command("check")
def data_check(spec: Spec) -> None:
    """Count and check a data set; exit 1 with one line per finding when something is wrong."""
    from segdec_edge.data.check import check_dataset, render
    from segdec_edge.data.spec import is_on_disk, open_dataset

    dataset = open_dataset(spec)
    report = check_dataset(dataset, dataset.root if is_on_disk(spec) else None)
    _out.print(render(report), markup=False)
    if report.findings:
        raise typer.Exit(1)


@data_app.command("split")
def data_split(
    spec: Spec,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for train.txt, validation.txt and test.txt.")],
    fold: Annotated[int | None, typer.Option(help="A published fold instead of a random split.")] = None,
    items: Annotated[int | None, typer.Option(help="Published training set of so many items.")] = None,
    splits: Annotated[Path | None, typer.Option(help="Published splits.json, if not beside the pictures.")] = None,
    validation: Annotated[float, typer.Option(help="Share of parts for validation.")] = 0.0,
    test: Annotated[float, typer.Option(help="Share of parts held out.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Seed of the random split.")] = 1337,
) -> None:
    """Write the pictures of each subset as lists, one path a line: a replay camera takes such a list."""
    from segdec_edge.data.lists import write_lists
    from segdec_edge.data.spec import open_dataset
    from segdec_edge.data.splits import choose_split

    dataset = open_dataset(spec)
    split = choose_split(
        dataset, seed=seed, validation=validation, test=test, fold=fold, items=items, splits_file=splits
    )
    for path, count in write_lists(out, dataset, split).items():
        _out.print(f"{path}: {count} pictures", markup=False)


@data_app.command("import")
def data_import(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="coco, labelme, cvat or labelstudio.")],
    source: Annotated[Path, typer.Argument(metavar="FILE_OR_FOLDER", help="What the annotation tool exported.")],
    images: Annotated[Path, typer.Option("--images", help="Folder of the annotated pictures.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for the data set.")],
    classes: Annotated[str, typer.Option(help="Only these classes are defects, as a,b; by default all.")] = "",
    min_area: Annotated[int, typer.Option(min=0, help="Pixels; smaller regions mark no defect.")] = 0,
    link: Annotated[bool, typer.Option("--link", help="Hard links instead of copies of the pictures.")] = False,
    parts: Annotated[bool, typer.Option("--parts", help="Write parts.csv, each picture a part of its own.")] = False,
) -> None:
    """Turn what annotators export into a data set folder:OUT; boxes alone are enough."""
    from segdec_edge.data.annotations.write import Choice, import_annotations, render

    names = tuple(name.strip() for name in classes.split(",") if name.strip())
    report = import_annotations(form, source, images, out, Choice(names, min_area, link, parts))
    _out.print(render(report), markup=False)
    _out.print(f"Next: segdec data check folder:{out}", markup=False)


@app.command()
def train(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of this training run.")],
    settings: Annotated[Path | None, typer.Argument(help="train.toml; options below override it.")] = None,
    data: Annotated[
        str | None, typer.Option(help="folder:PATH, kolektor:PATH, dagm:PATH,class=1, … or synthetic:…")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Published settings: own, kolektor, dagm, severstal, …")] = None,
    fold: Annotated[int | None, typer.Option(help="Published fold of the data set.")] = None,
    size: Annotated[str | None, typer.Option(help="Input size, HEIGHTxWIDTH.")] = None,
    width: Annotated[float | None, typer.Option(help="Channels relative to the published network.")] = None,
    epochs: Annotated[int | None, typer.Option()] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = None,
    tensorboard: Annotated[bool | None, typer.Option("--tensorboard/--no-tensorboard")] = None,
    change: Annotated[list[str] | None, typer.Option("--set", help="Any setting, as name=value in TOML.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the training in --out.")] = False,
) -> None:
    """Train the network end to end; every epoch leaves a checkpoint."""
    from segdec_edge.training.progress import TerminalObserver
    from segdec_edge.training.run import train as run_training

    named = {
        "data": data, "preset": preset, "fold": fold, "width": width, "epochs": epochs, "rate": rate, "seed": seed,
        "precision": precision, "device": device, "tensorboard": tensorboard,
    }  # fmt: skip
    console = _out if _is_first_process() else Console(quiet=True)
    chosen = _train_settings(settings, {key: value for key, value in named.items() if value is not None}, size, change)
    with TerminalObserver(chosen.total_epochs, console) as observer:
        result = run_training(chosen, out, observer, resume=resume)
    console.print(f"{result.checkpoint}: threshold {result.threshold:.6g}, {result.threshold_source}", markup=False)
    console.print(f"Next: segdec evaluate {result.checkpoint}", markup=False)


def _is_first_process() -> bool:
    """Whether this process speaks: alone, or the first of those that torchrun started."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK") == "0"


def _changes(changes: list[str] | None) -> dict[str, Any]:
    from segdec_edge.config.load import parse_toml

    merged: dict[str, Any] = {}
    for change in changes or []:
        merged |= parse_toml(change, f"--set {change}")
    return merged


def _train_settings(
    file: Path | None, values: dict[str, Any], size: str | None, changes: list[str] | None
) -> TrainSettings:
    from segdec_edge.config.load import read_toml
    from segdec_edge.config.train import train_settings
    from segdec_edge.data.spec import parse_size

    merged = (dict(read_toml(file)) if file else {}) | _changes(changes) | values
    if size:
        merged["size_hw"] = list(parse_size(size))
    if "data" not in merged:
        raise ConfigError('no data set given. Add --data folder:PATH, or data = "folder:PATH" in the settings file.')
    return train_settings(merged, str(file) if file else "command line")


@app.command()
def reproduce(
    table: Annotated[str, typer.Argument(help="I, II, III, IV or V of the paper.")],
    data: Annotated[str, typer.Option(help="Its data set, as kolektor:PATH; III and V take any.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the trainings, results.json and table.md.")],
    rows: Annotated[str | None, typer.Option(help="Only these rows, with commas.")] = None,
    variants: Annotated[str, typer.Option(help="ours, authors, text, averaged, mirrored, improved.")] = "ours",
    folds: Annotated[str | None, typer.Option(help="Only these folds, as 0,1.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, as 1337,1338.")] = "1337",
    size: Annotated[str | None, typer.Option(help="Another input size, HEIGHTxWIDTH.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None,
    change: Annotated[list[str] | None, typer.Option("--set", help="Any setting, for all rows.")] = None,
    side_by_side: Annotated[int, typer.Option(help="Trainings at a time; 0: as many as fit on the GPU.")] = 1,
    summary: Annotated[bool, typer.Option("--summary", help="Train nothing; tell from the results there are.")] = False,
) -> None:
    """Train and measure a table of the paper; an interrupted one goes on where it stopped."""
    from segdec_edge.reproduce.run import Asked, reproduce_table

    changes = (
        _changes(change) | ({"device": device} if device else {}) | ({"precision": precision} if precision else {})
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
    _out.print(reproduce_table(asked, _out, None if summary else side_by_side), markup=False)


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    try:
        return None if text is None else tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--{option} {text!r}, wanted numbers with commas, as 0,1,2.") from error


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A checkpoint or a bundle.")],
    data: Annotated[str | None, typer.Option(help="Data set; by default the one it was trained on.")] = None,
    subset: Annotated[str, typer.Option(help="test, validation, train or all.")] = "test",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the report.")] = None,
    backend: Annotated[str, typer.Option(help="auto, torch, onnxruntime or openvino.")] = "auto",
    size: Annotated[str | None, typer.Option(help="Input size, where a checkpoint does not say.")] = None,
) -> None:
    """Score held-out pictures and write one self-contained report page."""
    from segdec_edge.data.spec import open_dataset, parse_size
    from segdec_edge.evaluation.run import evaluate_artefact, note_accuracy
    from segdec_edge.model.artefact import open_artefact

    artefact = open_artefact(model, backend, parse_size(size) if size else None)
    spec = data or artefact.data
    if spec is None:
        raise ConfigError(f"{model}: does not say what it was trained on. Give --data.")
    folder = out or model.parent / f"{model.stem}-{subset}"
    dataset = open_dataset(spec)
    run = evaluate_artefact(artefact.backend, artefact.facts, artefact.threshold_source, dataset, subset, folder)
    _print_evaluation(run)
    if model.is_dir():
        note_accuracy(model, run, spec, subset, artefact.backend.name)


def _print_evaluation(run: EvaluationRun) -> None:
    from segdec_edge.evaluation.text import summary_lines

    for line in summary_lines(run):
        _out.print(line, markup=False)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, ours or the authors'.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The bundle to write, as parts.bundle.")],
    size: Annotated[str | None, typer.Option(help="Input size, where a checkpoint does not say.")] = None,
    data: Annotated[str | None, typer.Option(help="Data set for the parity check; default: the trained one.")] = None,
    simplify: Annotated[bool, typer.Option(help="Simplify the graph with onnxsim.")] = True,
) -> None:
    """Turn a checkpoint into a bundle; refused unless it scores real pictures as torch does."""
    from segdec_edge.data.spec import parse_size
    from segdec_edge.deploy.export import export_checkpoint
    from segdec_edge.deploy.material import parity_pictures

    pictures = parity_pictures(checkpoint, data)
    size_hw = parse_size(size) if size else None
    bundle = export_checkpoint(
        checkpoint, out, size_hw=size_hw, pictures=pictures, simplify=simplify, progress=_out.print
    )
    model = bundle.meta.model
    _out.print(f"{out}: {model.size_bytes / 1e6:.1f} MB, opset {model.opset}, model {model.sha256[:12]}", markup=False)
    if bundle.meta.parity is not None:
        _out.print(f"{bundle.meta.parity.in_words()}", markup=False)


@app.command("import-checkpoint")
def import_checkpoint(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint of the authors' implementation.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Our checkpoint to write, as kolektor.pt.")],
    data: Annotated[str | None, typer.Option(help="The data set it was trained on: evaluate it there.")] = None,
    fold: Annotated[int | None, typer.Option(help="Published fold it was trained on.")] = None,
    items: Annotated[int | None, typer.Option(help="Published training set of so many items.")] = None,
    splits: Annotated[Path | None, typer.Option(help="Published split file, if not beside the pictures.")] = None,
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
        source, out, size_hw=size_hw, trained_on=trained_on, report=report, say=_out.print
    )
    net = checkpoint.net
    _out.print(f"{out}: {net.in_channels} channel(s), width {net.width:g}, from {checkpoint.sha256[:12]}", markup=False)
    if run is not None:
        _print_evaluation(run)


@app.command("export-checkpoint")
def export_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint of width 1, norm feature.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, as kolektor.pth.")],
) -> None:
    """Write weights, bit for bit, as a state_dict that the authors' implementation loads."""
    from segdec_edge.deploy.exchange import export_authors

    _out.print(f"{out}: {export_authors(checkpoint, out)} tensors", markup=False)


@app.command()
def run(config: Annotated[Path, typer.Argument(help="station.toml")]) -> None:
    """Run a station until its camera ends, Ctrl-C or SIGTERM; every part gets one row in the ledger."""
    from segdec_edge.config.station import load_station
    from segdec_edge.station.run import run as run_station

    run_station(load_station(config), _out)


@app.command()
def doctor() -> None:
    """Tell what this machine can do, and which command adds what is missing."""
    from segdec_edge.doctor import examine, render

    _out.print(render(examine()), markup=False)
