"""Checkpoints of the authors' implementation, in and out. Knows no training.

Their file says neither input size nor threshold nor what it was trained on: whoever imports it does, and the threshold
is picked on the training pictures of the split that they name, never on those of the test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segdec_edge import __version__
from segdec_edge.bundle import utc_now
from segdec_edge.config.train import TrainSettings
from segdec_edge.data.samples import Dataset, Sample
from segdec_edge.data.spec import open_dataset
from segdec_edge.data.splits import Split, choose_split
from segdec_edge.errors import ConfigError, DataError, PictureError
from segdec_edge.evaluation.run import EvaluationRun, evaluate_artefact
from segdec_edge.evaluation.scoring import score_samples
from segdec_edge.evaluation.thresholds import best_f_threshold
from segdec_edge.files import folder_for, make_folder
from segdec_edge.model.artefact import open_artefact
from segdec_edge.model.authors import save_authors
from segdec_edge.model.backend import TorchBackend, spec_of
from segdec_edge.model.checkpoint import Checkpoint, load_authors, load_checkpoint, save_checkpoint
from segdec_edge.model.segdecnet import check_size
from segdec_edge.pictures import pixels_digest, prepare

_SEED: int = TrainSettings.model_fields["seed"].default  # draws the items that `segdec data split --items` does
Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainedOn:
    """What a network was trained on, in its user's words: a data set's spec and which published split of it.

    fold, items, splits as in training; without fold and splits only a data set with train and test folders will do.
    """

    spec: str
    fold: int | None = None
    items: int | None = None
    splits: Path | None = None


def import_checkpoint(
    source: Path,
    output: Path,
    *,
    size_hw: tuple[int, int] | None = None,
    trained_on: TrainedOn | None = None,
    report: Path | None = None,
    say: Say | None = None,
) -> tuple[Checkpoint, EvaluationRun | None]:
    """Write a checkpoint of the authors' implementation as one of ours; with trained_on, calibrate and evaluate it.

    size_hw: the input size it was trained at. report: folder for the evaluation on the test pictures, None for one
    beside the output. say: gets a line before what takes long. Gives the checkpoint as written.
    Raises CheckpointError, SizeError, ConfigError (output is there, size missing), DataError, StorageError.
    """
    _refuse_existing(output)
    checkpoint = replace(load_authors(source), size_hw=size_hw)
    if size_hw is not None:
        check_size(size_hw)
    checkpoint = replace(checkpoint, facts={"imported": _origin(source, checkpoint)})
    if trained_on is None:
        make_folder(output.parent)
        save_checkpoint(output, checkpoint)
        return checkpoint, None
    if size_hw is None:
        raise ConfigError(f"{source}: does not say its input size, wanted with --data. Give it: --size HEIGHTxWIDTH")
    dataset, split = _opened(trained_on)
    with folder_for(output.parent), folder_for(report or output.with_name(f"{output.stem}-test")) as folder:
        checkpoint = _calibrated(checkpoint, size_hw, dataset, split, say or _silent)
        save_checkpoint(output, checkpoint)
        (say or _silent)(f"scoring {len(split.test)} test pictures")
        artefact = open_artefact(output)
        run = evaluate_artefact(artefact.backend, artefact.facts, artefact.threshold_source, dataset, "test", folder)
    return checkpoint, run


def export_authors(checkpoint: Path, output: Path) -> int:
    """Write the weights of a checkpoint for the authors' implementation; gives how many tensors there are.

    Raises CheckpointError, ExportError (a network that it does not have), ConfigError (output is there), StorageError.
    """
    _refuse_existing(output)
    net = load_checkpoint(checkpoint).net
    save_authors(output, net)
    return len(net.state_dict())


def _opened(trained_on: TrainedOn) -> tuple[Dataset, Split]:
    """The data set and its split, refused before anything long where they cannot give a threshold and a test."""
    dataset = open_dataset(trained_on.spec)
    fold = trained_on.fold
    if fold is None and trained_on.splits is None:
        if dataset.published_test is None:
            raise ConfigError(
                f"{trained_on.spec}: which pictures was it trained on? A random split would test on some of them."
                " Give --fold or --splits; or import without --data, then segdec evaluate --subset all on others."
            )
        fold = 0
    split = choose_split(
        dataset, seed=_SEED, validation=0, test=0, fold=fold, items=trained_on.items, splits_file=trained_on.splits
    )
    defective = sum(sample.positive for sample in dataset.named(split.train))
    if not split.test or not 0 < defective < len(split.train):
        raise DataError(
            f"{split.how}: {defective} defective and {len(split.train) - defective} good training pictures,"
            f" {len(split.test)} for the test; wanted at least one of each. Choose another split, or omit --data."
        )
    return dataset, split


def _calibrated(
    checkpoint: Checkpoint, size_hw: tuple[int, int], dataset: Dataset, split: Split, say: Say
) -> Checkpoint:
    samples = dataset.named(split.train)
    say(f"scoring {len(samples)} training pictures to pick a threshold")
    backend = TorchBackend(checkpoint.net, spec_of(checkpoint.net, size_hw))
    found = score_samples(backend, samples, keep_heatmaps=False)
    lost = [one for one in found if one.score is None]
    if lost:
        say(f"{len(lost)} training pictures gave no score and do not count for the threshold, first {lost[0].error}")
    scored = [(one.positive, one.score) for one in found if one.score is not None]
    threshold = best_f_threshold([positive for positive, _ in scored], [score for _, score in scored])
    facts: dict[str, Any] = {
        **checkpoint.facts,
        "settings": {"data": dataset.spec},
        "split": split.to_json(),
        "train_digests": _digests(samples, size_hw, checkpoint.net.in_channels),
    }
    words = f"best F-measure on the {len(scored)} training pictures of {split.how}, at import"
    return replace(checkpoint, threshold=threshold, threshold_source=words, facts=facts)


def _digests(samples: Sequence[Sample], size_hw: tuple[int, int], channels: int) -> list[str]:
    """Digests by which evaluation notices a training picture among those it judges."""
    digests = []
    for sample in samples:
        try:
            digests.append(pixels_digest(prepare(sample.read(), size_hw, channels)))
        except PictureError:  # cannot be recognised, and had no score either
            continue
    return digests


def _origin(source: Path, checkpoint: Checkpoint) -> dict[str, str]:
    return {
        "file": source.name,
        "sha256": checkpoint.sha256,
        "when": utc_now().isoformat(timespec="seconds"),
        "by": f"segdec-edge {__version__}",
    }


def _refuse_existing(output: Path) -> None:
    if output.exists():
        raise ConfigError(f"{output}: is there already. Choose another name, or remove it.")


def _silent(_: str) -> None: ...
