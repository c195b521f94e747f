"""A whole training run in one folder: data, epochs, checkpoints, resume, threshold. Draws no bar; an Observer may.

RUN/checkpoint.pt  the last whole epoch, with everything that resuming needs
RUN/best.pt        with keep = "best": the epoch of the highest average precision on validation
RUN/averaged.pt    with average_epochs: the mean of the last epochs' weights
RUN/split.json     which pictures are in training, validation and test
RUN/log.jsonl      one line an epoch
RUN/training.lock  held while a process trains here
RUN/tensorboard/   the same for TensorBoard
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segdec_edge import __version__
from segdec_edge.bundle import utc_now
from segdec_edge.config.train import TrainSettings
from segdec_edge.data.samples import with_masks, withheld_in
from segdec_edge.data.spec import open_dataset
from segdec_edge.data.splits import Split
from segdec_edge.data.stream import Examples
from segdec_edge.errors import DivergedError, TrainingError
from segdec_edge.evaluation.metrics import average_precision
from segdec_edge.evaluation.thresholds import best_f_threshold
from segdec_edge.files import make_folder, write_atomic
from segdec_edge.model.backend import TorchBackend, spec_of
from segdec_edge.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from segdec_edge.model.segdecnet import SegDecNet, check_size
from segdec_edge.pictures import light_of
from segdec_edge.profile import NO_MODEL_FILE, Seen, profile_of
from segdec_edge.training.allocation import keep_freed_memory
from segdec_edge.training.average import TailAverage
from segdec_edge.training.earlier import earlier_checkpoint
from segdec_edge.training.feeding import (
    mask_digests,
    open_examples,
    require_divisible,
    require_same,
    source_range,
    split_for,
    survey,
)
from segdec_edge.training.lock import hold
from segdec_edge.training.loop import EpochLosses, Trainer
from segdec_edge.training.parallel import Ranks, joined
from segdec_edge.training.records import EpochRecord, Observer, Silent, TensorBoard, history_in
from segdec_edge.training.refusals import (
    refuse_nothing_to_paste,
    refuse_one_kind,
    refuse_other_content,
    refuse_other_split,
    refuse_unable_to_judge,
)
from segdec_edge.training.setup import Hardware, choose_hardware, make_deterministic

CHECKPOINT, BEST, AVERAGED, SPLIT, LOG = "checkpoint.pt", "best.pt", "averaged.pt", "split.json", "log.jsonl"


@dataclass(frozen=True)
class TrainResult:
    """checkpoint: the file to use (the last epoch's, the best one's or their mean); history of all epochs."""

    checkpoint: Path
    threshold: float
    threshold_source: str
    history: tuple[EpochRecord, ...]


def train(settings: TrainSettings, output: Path, observer: Observer, *, resume: bool = False) -> TrainResult:
    """Train, or continue a training, in a folder that every process of it sees; the first one writes and observes.

    Raises ConfigError (another training's folder), DataError, SizeError, TrainingError (also where another process
    trains in that folder), DivergedError, StorageError; PeerStopped where another process did.
    """
    with joined() as ranks, ExitStack() as held:
        return _train(settings, output, observer if ranks.first else Silent(), ranks, held, resume=resume)


def _train(
    settings: TrainSettings, output: Path, observer: Observer, ranks: Ranks, held: ExitStack, *, resume: bool
) -> TrainResult:
    check_size(settings.size_hw)
    require_divisible(settings, ranks)
    there = ranks.first and output.is_dir() and os.access(output, os.W_OK)
    if there:  # before the checkpoint is read: another process may be writing the next one
        hold(output, held, observer.note)
    earlier = earlier_checkpoint(output / CHECKPOINT, settings, resume=resume)
    if earlier is not None and (finished := _finished(output, settings, earlier)):
        observer.note(f"{finished.checkpoint}: finished already, nothing to do")
        return finished
    hardware = choose_hardware(settings, ranks)
    if hardware.device.type == "cpu":
        keep_freed_memory()
    dataset = open_dataset(settings.data)
    split = split_for(settings, dataset)
    refuse_one_kind(dataset.named(split.train), settings.data)
    train_samples = with_masks(split.training(dataset), settings.masks, settings.seed)
    split = replace(split, withheld=withheld_in(train_samples))
    refuse_nothing_to_paste(train_samples, settings)
    if settings.keep == "best":
        refuse_unable_to_judge(dataset.named(split.validation))
    if earlier is not None:
        refuse_other_split(split, earlier.facts.get("split"), output / CHECKPOINT)
    require_same(ranks, f"{settings.model_dump_json()} {split.to_json()} {earlier.epoch if earlier else 0}")
    if ranks.first:
        make_folder(output)
        if not there:
            hold(output, held, observer.note)
        write_atomic(output / SPLIT, json.dumps(split.to_json(), indent=1))
    examples, validation = open_examples(settings, ranks, train_samples, dataset.named(split.validation))
    with examples, validation:
        return _Run(settings, output, observer, hardware, ranks, examples, validation, split).go(earlier)


class _Run:
    def __init__(
        self,
        settings: TrainSettings,
        output: Path,
        observer: Observer,
        hardware: Hardware,
        ranks: Ranks,
        examples: Examples,
        validation: Examples,
        split: Split,
    ) -> None:
        self.settings, self.output, self.observer, self.ranks = settings, output, observer, ranks
        self.hardware, self.examples, self.validation, self.split = hardware, examples, validation, split
        self.history: list[EpochRecord] = []
        self.average = TailAverage()
        self.precision: str = hardware.precision

    def go(self, earlier: Checkpoint | None) -> TrainResult:
        settings = self.settings
        # Validation first: it is used in every epoch, good training pictures are not.
        self.digests = survey(self.validation, self.ranks, self.observer.preparing)
        self.digests = survey(self.examples, self.ranks, self.observer.preparing) + self.digests
        self.masks = mask_digests(self.examples, self.ranks)
        self.source_hw = source_range(self.examples, self.ranks)
        if earlier:
            for what, now, key in (("pixels", self.digests, "train_digests"), ("masks", self.masks, "mask_digests")):
                refuse_other_content(what, now, earlier.facts.get(key), self.output / CHECKPOINT)
        make_deterministic(settings.seed)
        net = SegDecNet(settings.channels, settings.width, settings.norm, gradient_stop=settings.gradient_stop)
        if earlier:
            net.load_state_dict(earlier.net.state_dict())
        self.net = net.to(self.hardware.device, memory_format=self.hardware.memory_format)  # type: ignore[call-overload]
        self.trainer = Trainer(self.net, self.examples, settings, self.hardware, self.ranks)
        if earlier:
            self._restore(earlier.progress)
            self._go_on_in(str(earlier.facts["precision"]))
        writes = settings.tensorboard and self.ranks.first
        board = TensorBoard(self.output / "tensorboard", len(self.history)) if writes else None
        self.observer.note(self._opening())
        for epoch in range(len(self.history), settings.total_epochs):
            losses = self.trainer.run_epoch(epoch, lambda *step, epoch=epoch: self.observer.step(epoch + 1, *step))
            self._finish_epoch(epoch, losses)
            if board is not None:
                board.add(self.history[-1])
        if board is not None:
            board.close()
        return self._finish()

    def _opening(self) -> str:
        positives = int(self.examples.labels.sum())
        height, width = self.settings.size_hw
        return (
            f"{len(self.examples)} pictures ({positives} defective), {len(self.validation)} for validation,"
            f" {len(self.split.test)} held out ({self.split.how}); {height}x{width}, width {self.settings.width:g},"
            f" {self.hardware.precision} on {self.hardware.device}"
        )

    def _restore(self, progress: Mapping[str, Any]) -> None:
        self.trainer.use_counts = np.asarray(progress["use_counts"].numpy(), np.int64)
        self.history = list(history_in(progress))
        self.average = TailAverage(progress.get("average"), int(progress.get("averaged", 0)))
        if progress["scaler"]:
            self.trainer.scaler.load_state_dict(progress["scaler"])
        self._write_log()  # a kill may have come between checkpoint and log
        self.observer.note(f"resuming after epoch {len(self.history)} of {self.settings.total_epochs}")

    def _go_on_in(self, before: str) -> None:
        """Another machine may choose another precision: the training's says both, in their order."""
        now = self.hardware.precision
        self.precision = before if before.split(", then ")[-1] == now else f"{before}, then {now}"
        if self.precision != before:
            self.observer.note(f"was trained in {before} so far, goes on in {now} (set precision to choose)")

    def _finish_epoch(self, epoch: int, losses: EpochLosses) -> None:
        self._refuse_lost_weights()
        ap = self._validation_ap()
        decides = self.settings.total_epochs - self.settings.epochs  # before, "separate" has no decision part yet
        best = max((record.validation_ap or 0.0 for record in self.history[decides:]), default=-1.0)
        self.history.append(EpochRecord(epoch + 1, **asdict(losses), validation_ap=ap))
        if epoch >= self.settings.total_epochs - self.settings.average_epochs:
            self.average.add(self.net)
        checkpoint = self._checkpoint()
        if self.settings.keep == "best" and epoch >= decides and ap is not None and ap > best:
            self._save(self.output / BEST, checkpoint)
        self._save(self.output / CHECKPOINT, checkpoint)
        self._write_log()
        self.observer.epoch(self.history[-1], self.settings.total_epochs)

    def _write_log(self) -> None:
        if self.ranks.first:
            write_atomic(self.output / LOG, "".join(json.dumps(asdict(record)) + "\n" for record in self.history))

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            net=self.net,
            size_hw=self.settings.size_hw,
            epoch=len(self.history),
            facts=self._facts(),
            progress={
                "use_counts": torch.from_numpy(self.trainer.use_counts.copy()),
                "history": [asdict(record) for record in self.history],
                "scaler": self.trainer.scaler.state_dict(),
                "average": self.average.mean,
                "averaged": self.average.count,
            },
        )

    def _facts(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(mode="json"),
            "split": self.split.to_json(),
            "train_digests": self.digests,
            "mask_digests": self.masks,
            "source_hw": self.source_hw,
            "positives": int(self.examples.labels.sum()),
            "negatives": int((~self.examples.labels).sum()),
            "precision": self.precision,
            "device": str(self.hardware.device),
            "processes": self.ranks.world,
            "versions": {
                "segdec-edge": __version__,
                "torch": str(torch.__version__),
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        }

    def _validation_ap(self) -> float | None:
        if not _both_kinds(self.validation):
            return None
        labels, scores, _ = self._scores(self.net, self.validation)
        if not np.isfinite(scores).all():
            raise DivergedError(f"scores of validation pictures are no numbers: training diverged. {self._advice()}")
        return average_precision(labels, scores)

    def _refuse_lost_weights(self) -> None:
        """Before they take the place of the last good ones: the loss of the very last step is not looked at again."""
        if not all(bool(torch.isfinite(value).all()) for value in self.net.state_dict().values()):
            raise DivergedError(f"weights are no numbers after an epoch: training diverged. {self._advice()}")

    def _advice(self) -> str:
        rate = self.settings.rate
        return f"Lower rate (now {rate:g}; try {rate / 10:g}). The last whole epoch's checkpoint is kept."

    def _scores(self, net: SegDecNet, examples: Examples) -> tuple[list[bool], list[float], list[tuple[float, float]]]:
        """Labels, scores and light (pictures.light_of) of the examples."""
        backend = TorchBackend(net, spec_of(net, self.settings.size_hw))
        mine = range(self.ranks.rank, len(examples), self.ranks.world)
        found = np.zeros((3, len(examples)))
        for index, example in zip(mine, examples.read(mine), strict=True):
            found[:, index] = backend.infer(example.pixels[None]).score[0], *light_of(example.pixels)
        summed = self.ranks.sum(found.ravel()).reshape(found.shape)
        light = [(float(mean), float(deviation)) for mean, deviation in summed[1:].T]
        return examples.labels.tolist(), summed[0].tolist(), light

    def _save(self, path: Path, checkpoint: Checkpoint) -> None:
        """Write a checkpoint that all processes may read when this returns."""
        if self.ranks.first:
            save_checkpoint(path, checkpoint)
        self.ranks.wait()

    def _finish(self) -> TrainResult:
        """Give what is kept its threshold; the averaged network beside the last epoch's, so that both can be judged."""
        if self.settings.average_epochs:
            self._calibrate(self.output / CHECKPOINT)
            last = load_checkpoint(self.output / CHECKPOINT)
            self.average.load_into(last.net)
            self._save(self.output / AVERAGED, replace(last, threshold=None, threshold_source="", progress={}))
        path = _kept(self.output, self.settings)
        threshold, words = self._calibrate(path)
        return TrainResult(path, threshold, words, tuple(self.history))

    def _calibrate(self, path: Path) -> tuple[float, str]:
        """Pick the threshold on validation pictures, or on training ones where those are of one kind; store it.

        How the same pictures scored, and their light, stays among the facts: the station's drift watch starts from it.
        """
        checkpoint = load_checkpoint(path)
        net = checkpoint.net.to(self.hardware.device, memory_format=self.hardware.memory_format)  # type: ignore[call-overload]
        both_kinds = _both_kinds(self.validation)
        source, subset = ("validation", "validation") if both_kinds else ("training", "train")
        labels, scores, light = self._scores(net, self.validation if both_kinds else self.examples)
        if not np.isfinite(scores).all():
            raise TrainingError("the trained network gives scores that are no numbers. Lower rate and train again.")
        threshold = best_f_threshold(labels, scores)
        words = f"best F-measure on the {len(labels)} {source} pictures"
        seen = [Seen(*one) for one in zip(labels, scores, light, strict=True)]
        profile = profile_of(
            seen, data=self.settings.data, subset=subset, model_sha256=NO_MODEL_FILE, when=utc_now()
        ).model_dump(mode="json")
        facts = {**checkpoint.facts, "profile": profile}
        self._save(path, replace(checkpoint, threshold=threshold, threshold_source=words, facts=facts))
        return threshold, words


def _kept(output: Path, settings: TrainSettings) -> Path:
    if settings.average_epochs:
        return output / AVERAGED
    return output / (BEST if settings.keep == "best" else CHECKPOINT)


def _finished(output: Path, settings: TrainSettings, earlier: Checkpoint) -> TrainResult | None:
    """The result of a training whose last epoch and threshold are there, else None."""
    path = _kept(output, settings)
    if earlier.epoch < settings.total_epochs or not path.exists():
        return None
    kept = load_checkpoint(path)
    if kept.threshold is None:
        return None
    return TrainResult(path, kept.threshold, kept.threshold_source, history_in(earlier.progress))


def _both_kinds(examples: Examples) -> bool:
    return len(set(examples.labels.tolist())) == 2
