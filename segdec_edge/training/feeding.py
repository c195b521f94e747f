"""Examples for one process of a training, and what a first look at all of them says. Knows no network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from hashlib import sha256

from segdec_edge.config.train import TrainSettings
from segdec_edge.data.memory import cache_limit
from segdec_edge.data.samples import Dataset, Sample
from segdec_edge.data.splits import Split, choose_split
from segdec_edge.data.stream import Examples, Memory, Surveyed
from segdec_edge.data.targets import TargetRule
from segdec_edge.errors import ConfigError
from segdec_edge.training.parallel import Ranks

_MOST_WORKERS = 8


def split_for(settings: TrainSettings, dataset: Dataset) -> Split:
    """The split that a training of these settings has. Raises as choose_split."""
    return choose_split(
        dataset,
        seed=settings.seed,
        validation=settings.validation,
        test=settings.test,
        fold=settings.fold,
        items=settings.items,
        splits_file=settings.splits,
    )


def open_examples(
    settings: TrainSettings, ranks: Ranks, train: Sequence[Sample], validation: Sequence[Sample]
) -> tuple[Examples, Examples]:
    """Training and validation examples under one limit of memory; both are to be closed."""
    memory = Memory(cache_limit(settings.cache_gib, ranks.local_world))
    workers = _own_cores(ranks) if settings.workers is None else settings.workers
    rule = target_rule(settings)
    return Examples(train, rule, memory, workers), Examples(validation, rule, memory, workers)


def survey(examples: Examples, ranks: Ranks, progress: Surveyed) -> list[str]:
    """Read every picture once, each process its part, so that a broken one is met now; the digests of all, by index."""
    return _of_all(examples, ranks, examples.survey(range(ranks.rank, len(examples), ranks.world), progress))


def mask_digests(examples: Examples, ranks: Ranks) -> list[str]:
    """Of the masks of all, by index, after a survey; zeros where there is none."""
    return _of_all(examples, ranks, examples.mask_digests)


def _of_all(examples: Examples, ranks: Ranks, mine: Mapping[int, str]) -> list[str]:
    numbers = ranks.fill(len(examples), {index: int(digest, 16) for index, digest in mine.items()})
    return [f"{number:016x}" for number in numbers]


def source_range(examples: Examples, ranks: Ranks) -> tuple[tuple[int, int], tuple[int, int]]:
    """Smallest and largest height and width of all pictures as stored, after a survey."""
    packed = ranks.fill(len(examples), {index: high << 20 | wide for index, (high, wide) in examples.sizes.items()})
    highs, wides = [one >> 20 for one in packed], [one & 0xFFFFF for one in packed]
    return (min(highs), min(wides)), (max(highs), max(wides))


def target_rule(settings: TrainSettings) -> TargetRule:
    return TargetRule(
        size_hw=settings.size_hw,
        channels=settings.channels,
        boxes=settings.boxes,
        dilate=settings.dilate,
        weighted=settings.distance_weights,
        p=settings.p,
        w_pos=settings.w_pos,
        per=settings.distance_per,
        flips=settings.flips,
    )


def require_divisible(settings: TrainSettings, ranks: Ranks) -> None:
    """Raise ConfigError on settings that several processes cannot train with."""
    if not ranks.several:
        return
    if settings.norm == "batch":
        raise ConfigError(
            f"norm = 'batch' with {ranks.world} processes: each would keep statistics of its own pictures, wanted"
            " norm = 'feature'. Set it, or train in one process."
        )
    if settings.batch < ranks.world:
        raise ConfigError(
            f"batch {settings.batch} with {ranks.world} processes leaves {ranks.world - settings.batch} of them without"
            f" work in every step, wanted at least {ranks.world}: batch counts the pictures of all processes together."
            " Raise batch, or lower --nproc-per-node."
        )


def require_same(ranks: Ranks, what: str) -> None:
    """Raise ConfigError where the processes of a training were not started on the same."""
    if not ranks.same(int(sha256(what.encode()).hexdigest()[:15], 16)):
        raise ConfigError(
            f"the {ranks.world} processes of this training have other settings, pictures or checkpoints than each"
            " other, wanted the same. Start all alike, with --out and the data on a disk that all of them see."
        )


def _own_cores(ranks: Ranks) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MOST_WORKERS, cores // ranks.local_world))
