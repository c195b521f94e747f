"""segdec train and evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segdec_edge.cli.app import app, changes_of, console, speaking_console
from segdec_edge.errors import ConfigError

if TYPE_CHECKING:
    from segdec_edge.config.train import TrainSettings
    from segdec_edge.evaluation.run import EvaluationRun


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
    speaking = speaking_console()
    chosen = _train_settings(settings, {key: value for key, value in named.items() if value is not None}, size, change)
    with TerminalObserver(chosen.total_epochs, speaking) as observer:
        result = run_training(chosen, out, observer, resume=resume)
    speaking.print(f"{result.checkpoint}: threshold {result.threshold:.6g}, {result.threshold_source}", markup=False)
    speaking.print(f"Next: segdec evaluate {result.checkpoint}", markup=False)


def _train_settings(
    file: Path | None, values: dict[str, Any], size: str | None, changes: list[str] | None
) -> TrainSettings:
    from segdec_edge.config.load import read_toml
    from segdec_edge.config.train import train_settings
    from segdec_edge.data.spec import parse_size

    merged = (dict(read_toml(file)) if file else {}) | changes_of(changes) | values
    if size:
        merged["size_hw"] = list(parse_size(size))
    if "data" not in merged:
        raise ConfigError('no data set given. Add --data folder:PATH, or data = "folder:PATH" in the settings file.')
    return train_settings(merged, str(file) if file else "command line")


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A checkpoint or a bundle.")],
    data: Annotated[str | None, typer.Option(help="Data set; by default the one it was trained on.")] = None,
    subset: Annotated[str, typer.Option(help="test, validation, train or all.")] = "test",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the report.")] = None,
    backend: Annotated[str, typer.Option(help="auto, torch, tensorrt, onnxruntime or openvino.")] = "auto",
    size: Annotated[str | None, typer.Option(help="Input size, where a checkpoint does not say.")] = None,
) -> None:
    """Score held-out pictures and write one self-contained report page."""
    from segdec_edge.data.spec import open_dataset, open_remembered, parse_size
    from segdec_edge.evaluation.run import evaluate_artefact, note_accuracy
    from segdec_edge.model.artefact import open_artefact

    artefact = open_artefact(model, backend, parse_size(size) if size else None)
    spec = data or artefact.data
    if spec is None:
        raise ConfigError(f"{model}: does not say what it was trained on. Give --data.")
    folder = out or model.parent / f"{model.stem}-{subset}"
    dataset = open_dataset(data) if data else open_remembered(spec, model)
    run = evaluate_artefact(artefact.backend, artefact.facts, artefact.threshold_source, dataset, subset, folder)
    print_evaluation(run)
    if model.is_dir():
        note_accuracy(model, run, spec, subset, artefact.backend.name)


def print_evaluation(run: EvaluationRun) -> None:
    from segdec_edge.evaluation.text import summary_lines

    for line in summary_lines(run):
        console.print(line, markup=False)
