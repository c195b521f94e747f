"""Which trainings a table needs: rows × variants × folds × seeds. Knows no figure of the paper and runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from segdec_edge.config.train import TrainSettings, train_settings
from segdec_edge.errors import ConfigError
from segdec_edge.reproduce.paper import SWITCHES, Row, Table

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "ours": {},
    "authors": {"distance_per": "image"},
    "text": {"target": "label"},
    "drawn": {"boxes": False},
    "batch-norm": {"norm": "batch"},
    "averaged": {"average_epochs": 10},
    "mirrored": {"flips": True},
    "pasted": {"paste": 0.5},
    "augmented": {"flips": True, "paste": 0.5},
    "improved": {"flips": True, "average_epochs": 10},
    "mirrored-text": {"flips": True, "target": "label"},
    "augmented-text": {"flips": True, "paste": 0.5, "target": "label"},
}
"""ours: our defaults (the paper's text but for the soft target). authors: as the release behind the published numbers.
text: the paper's text to the letter. drawn: masks as annotated where the paper takes boxes. The others go beyond it."""

# The authors' scripts train DAGM for 60 epochs where the paper says 50.
_BY_PRESET: Mapping[tuple[str, str], Mapping[str, Any]] = {("authors", "dagm"): {"epochs": 60}}
_OPTIONS = {"data": "--data", "seed": "--seeds", "fold": "--folds", "preset": "the table", "items": "tables II to V"}


AVERAGED = "averaged.pt"


@dataclass(frozen=True)
class Job:
    """One training and what is evaluated of it. variants: the names under which its result counts, with the file.

    fold: the published fold, or with unit "class" the number of DAGM's class; pictures: digest of its split's, "" where
    not known; content: digest of their files and masks, likewise.
    """

    row: str
    variants: tuple[tuple[str, str], ...]
    fold: int | None
    seed: int
    settings: TrainSettings
    unit: str = "fold"
    pictures: str = ""
    content: str = ""

    @property
    def folder(self) -> str:
        fold = "split" if self.fold is None else f"{self.unit}{self.fold}"
        return f"{self.row}/{'+'.join(name for name, _ in self.variants)}/{fold}-seed{self.seed}"


def without_effect(settings: TrainSettings) -> frozenset[str]:
    """Settings that change nothing of this training: what distance weights are measured by, where there are none."""
    return frozenset() if settings.distance_weights else frozenset({"distance_per"})


def plan(
    table: Table,
    data: str,
    *,
    rows: Sequence[str] | None = None,
    variants: Sequence[str] = ("ours",),
    folds: Sequence[int | None] | None = None,
    seeds: Sequence[int] = (1337,),
    changes: Mapping[str, Any] | None = None,
) -> tuple[Job, ...]:
    """The trainings of a table, first row and fold first. rows and folds: None for all; changes: settings for all;
    what is named twice counts once.

    Variants that differ in average_epochs alone share one training: averaging leaves the last epoch's weights as they
    are. Raises ConfigError on a name that is not there, or settings that do not fit.
    """
    _refuse_unknown("row", rows or (), [row.key for row in table.rows])
    _refuse_unknown("variant", variants, list(VARIANTS))
    if folds and table.folds == (None,):
        raise ConfigError(f"--folds: {table.kind} has no published folds, it is split by --seeds. Leave --folds away.")
    _refuse_unknown("fold", folds or (), list(table.folds))
    for what, named in (("row", rows), ("variant", variants), ("fold", folds), ("seed", seeds)):
        if named is not None and not named:
            raise ConfigError(f"no {what} named, wanted at least one. Leave --{what}s away for the usual.")
    _refuse_owned(table, changes or {}, rows, variants)
    jobs: list[Job] = []
    for row in table.rows:
        if rows is not None and row.key not in rows:
            continue
        for seed in dict.fromkeys(seeds):
            for fold in dict.fromkeys(table.folds if folds is None else folds):
                values = {**base_values(table, row, data, fold), "seed": seed}
                made = _jobs(row.key, values, variants, changes or {})
                jobs.extend(replace(job, fold=fold, unit=table.unit) for job in made)
    return tuple(jobs)


def base_values(table: Table, row: Row, data: str, fold: int | None) -> dict[str, Any]:
    """A row's settings before variant and changes; a class of DAGM is one published fold of its own data set."""
    values = {"preset": table.preset, "data": data, "fold": fold, **table.values, **row.values}
    return values | {"data": f"{data},class={fold}", "fold": 0} if table.unit == "class" else values


def _jobs(row: str, values: Mapping[str, Any], variants: Sequence[str], changes: Mapping[str, Any]) -> list[Job]:
    shared: dict[str, list[tuple[str, TrainSettings]]] = {}
    for name in dict.fromkeys(variants):
        settings = train_settings({**values, **variant_values(name, values["preset"]), **changes}, f"variant {name}")
        key = settings.model_dump_json(exclude={"average_epochs", *without_effect(settings)})
        shared.setdefault(key, []).append((name, settings))
    jobs = []
    for members in shared.values():
        longest = max((settings for _, settings in members), key=lambda one: one.average_epochs)
        files = tuple((name, AVERAGED if one.average_epochs else _last(one)) for name, one in members)
        jobs.append(Job(row, files, longest.fold, longest.seed, longest))
    return jobs


def variant_values(name: str, preset: str) -> dict[str, Any]:
    return {**VARIANTS[name], **_BY_PRESET.get((name, preset), {})}


def _refuse_owned(
    table: Table, changes: Mapping[str, Any], rows: Sequence[str] | None, variants: Sequence[str]
) -> None:
    """What gives a row or a column its name cannot be another thing under that name."""
    owner = {key: f"variant {name}" for name in reversed(list(VARIANTS)) for key in VARIANTS[name]}
    owner |= {key: f"variant {name}" for name in variants for key in variant_values(name, table.preset)}
    owner |= dict.fromkeys((*SWITCHES, "scheme"), "the rows of tables II, III and V") | _OPTIONS
    chosen = (row for row in reversed(table.rows) if rows is None or row.key in rows)
    owner |= {key: f"row {row.key}" for row in chosen for key in row.values}
    for key in changes:
        if key in owner:
            raise ConfigError(
                f"--set {key}: {owner[key]} sets it, another value would stand under a false name. Leave it away, and"
                " choose by --rows, --variants, --folds and --seeds; a training of your own is segdec train."
            )


def _last(settings: TrainSettings) -> str:
    return "best.pt" if settings.keep == "best" else "checkpoint.pt"


def _refuse_unknown(what: str, asked: Sequence[Any], known: Sequence[Any]) -> None:
    for one in asked:
        if one not in known:
            raise ConfigError(f"{what} {one!r} is not there, wanted {', '.join(str(name) for name in known)}.")
