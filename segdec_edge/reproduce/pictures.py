"""Which pictures the trainings of a table are of, looked up before the first one begins. Trains and decodes none."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from segdec_edge.config.train import TrainSettings
from segdec_edge.data.samples import Dataset
from segdec_edge.data.spec import open_dataset
from segdec_edge.data.splits import SUBSETS, Split
from segdec_edge.errors import DataError, PictureError, SegdecError
from segdec_edge.files import sha256_of
from segdec_edge.reproduce.plan import Job
from segdec_edge.training.feeding import split_for
from segdec_edge.training.refusals import refuse_one_kind


class Lookup:
    """Data sets and splits of settings, each opened once: a table has many trainings of the same."""

    def __init__(self) -> None:
        self._datasets: dict[str, Dataset] = {}
        self._splits: dict[str, Split] = {}
        self._files: dict[Path, str] = {}

    def of(self, settings: TrainSettings) -> tuple[Dataset, Split]:
        """Raises as open_dataset and choose_split."""
        if settings.data not in self._datasets:
            self._datasets[settings.data] = open_dataset(settings.data)
        dataset = self._datasets[settings.data]
        shaping = {"data", "seed", "validation", "test", "fold", "items", "splits"}
        key = settings.model_dump_json(include=shaping)
        if key not in self._splits:
            self._splits[key] = split_for(settings, dataset)
        return dataset, self._splits[key]

    def with_digests(self, jobs: Iterable[Job]) -> tuple[Job, ...]:
        """The jobs with the digests of their pictures, "" where these are not to be had: results may be there yet."""
        return tuple(self._with_digests(job) for job in jobs)

    def content_of(self, settings: TrainSettings) -> str:
        """Hex SHA-256 of the bytes of all files that pictures and masks are read from, each file read once.

        Raises as of, and PictureError where one cannot be read.
        """
        dataset, split = self.of(settings)
        digest = sha256()
        for sample in dataset.named((*split.train, *split.validation, *split.test)):
            for source in sample.sources:
                digest.update((source if isinstance(source, str) else self._file(source)).encode())
        return digest.hexdigest()

    def refuse_unfit(self, jobs: Iterable[Job]) -> None:
        """Before the first training: what would be refused, or could not be evaluated, only hours later.

        Raises DataError on a test without both kinds, and as open_dataset, choose_split and training do.
        """
        for job in jobs:
            dataset, split = self.of(job.settings)
            refuse_one_kind(dataset.named(split.train), job.settings.data)
            defective = sum(sample.positive for sample in dataset.named(split.test))
            if not 0 < defective < len(split.test):
                raise DataError(
                    f"{job.folder}: tests {defective} defective and {len(split.test) - defective} good pictures"
                    f" ({split.how}), wanted at least one of each. Set another test share, seed or splits file."
                )

    def _with_digests(self, job: Job) -> Job:
        try:
            pictures = pictures_digest(*self.of(job.settings))
            return replace(job, pictures=pictures, content=self.content_of(job.settings))
        except SegdecError:
            return job

    def _file(self, path: Path) -> str:
        if path not in self._files:
            try:
                self._files[path] = sha256_of(path)
            except OSError as error:
                raise PictureError(f"{path}: cannot be read ({error.strerror}). Check it.") from error
        return self._files[path]


def pictures_digest(dataset: Dataset, split: Split) -> str:
    """Hex SHA-256 of the names in each subset and which are defective: other pictures, another training."""
    kinds = {sample.name: sample.positive for sample in dataset.samples}
    return sha256(
        json.dumps([[(name, kinds[name]) for name in split.subset(one)] for one in SUBSETS]).encode()
    ).hexdigest()
