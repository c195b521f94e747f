"""Results of trainings on disk: read, compared with what is asked for, found in whichever folder of a row holds them.

The folder of a training is named after the variants that were asked for together when it began; another list of
variants finds it by its settings. Trains nothing and opens no network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segdec_edge.config.train import TrainSettings
from segdec_edge.errors import ConfigError, DataError
from segdec_edge.reproduce.plan import AVERAGED, Job, without_effect
from segdec_edge.training.changed import changed_settings, changed_splits

Result = Mapping[str, Any]
_NEEDED = ("row", "variant", "fold", "seed", "device", "precision", "positives", "negatives")
# Settings that do not shape a result; average_epochs is compared by what was evaluated, see `evaluated`.
FREE = frozenset({"device", "tensorboard", "average_epochs", "cache_gib", "workers"})


def result_path(folder: Path, variant: str) -> Path:
    return folder / f"result-{variant}.json"


def read_result(path: Path) -> Result:
    """Raises DataError on a file that is no result, or cut off."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        evaluation, settings = values["evaluation"], values["settings"]
        one_kind = evaluation["average_precision"] is None
        for point in () if one_kind else ("best_f", "given"):
            _counted(evaluation[point]["confusion"])
        float(evaluation["average_precision"] or 0), settings["data"].strip(), values["versions"].items()
        for key in _NEEDED:
            values[key]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a result ({reason}). Delete it and start again: that run is repeated.") from error
    if one_kind:
        raise DataError(
            f"{path}: test pictures of one kind only, wanted both for an average precision. Change the split."
        )
    return dict(values)


def evaluated(job: Job, variant: str) -> dict[str, Any]:
    """Which file of the training a variant's result is of, and over how many epochs its weights are averaged."""
    file = dict(job.variants)[variant]
    return {"file": file, "average_epochs": job.settings.average_epochs if file == AVERAGED else 0}


def find_result(output: Path, job: Job, variant: str) -> tuple[Path, Result] | None:
    """A variant's result of a job, wherever in the row it lies; None where it is not there yet.

    Raises DataError on a file that is no result, ConfigError where there are results of other settings only.
    """
    refused = ""
    for folder in places(output, job):
        path = result_path(folder, variant)
        if not path.exists():
            continue
        result = read_result(path)
        changed = changed_in(job.settings, result["settings"])
        asked = evaluated(job, variant)
        before = {**asked, **result.get("evaluated", {})}  # earlier results do not say: what the variant means
        changed += [f"{key} = {before[key]} (now {asked[key]})" for key in asked if before[key] != asked[key]]
        other = changed_splits(job.settings, result.get("splits_sha256", ""))
        if other:
            changed.append(f"other content of {other}")
        if job.pictures and result.get("pictures_sha256", job.pictures) != job.pictures:
            changed.append(f"other pictures of {job.settings.data}")
        elif job.content and result.get("content_sha256", job.content) != job.content:
            changed.append(f"other pixels or masks of {job.settings.data}")
        if not changed:
            return path, result
        refused = refused or f"{path}: was measured with {', '.join(changed)}."
    if refused:
        raise ConfigError(f"{refused} Use those settings, or choose another folder.")
    return None


def changed_in(asked: TrainSettings, stored: Mapping[str, Any]) -> list[str]:
    """What of a stored training differs from the one asked for, in words; what has no effect does not count."""
    return changed_settings(asked, stored, FREE | without_effect(asked))


def places(output: Path, job: Job) -> list[Path]:
    """Folders of the same row, fold and seed that are there, the job's own first."""
    own = output / job.folder
    others = sorted(own.parent.parent.glob(f"*/{own.name}"))
    return [folder for folder in dict.fromkeys((own, *others)) if folder.is_dir()]


def _counted(values: Mapping[str, Any]) -> None:
    for key in ("tp", "fp", "fn", "tn"):
        if not isinstance(values[key], int):
            raise TypeError(f"{key} is no count")
