"""Runs the trainings of a table, each in a folder of its own, and leaves a result beside each. Knows no table.

OUT/ROW/VARIANTS/foldF-seedS/  a training run, and for each variant
    report-VARIANT/            its report page on the test pictures
    result-VARIANT.json        settings, versions, seconds, figures; written last: what has one is done
    output.log                 what a run in a process of its own said
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from segdec_edge.config.train import train_settings
from segdec_edge.data.splits import Split
from segdec_edge.ending import hand_on
from segdec_edge.errors import TrainingError
from segdec_edge.evaluation.run import evaluate_artefact
from segdec_edge.files import make_folder, write_atomic
from segdec_edge.model.artefact import open_artefact
from segdec_edge.model.checkpoint import load_checkpoint
from segdec_edge.reproduce.pictures import Lookup, pictures_digest
from segdec_edge.reproduce.plan import AVERAGED, Job, without_effect
from segdec_edge.reproduce.results import FREE, changed_in, evaluated, find_result, places, result_path
from segdec_edge.training.records import EpochRecord, Observer
from segdec_edge.training.refusals import refuse_other_split
from segdec_edge.training.run import CHECKPOINT, train

JOB = "job.json"
Said = Callable[[str], None]


def find_training(output: Path, job: Job, said: Said) -> tuple[Job, Path]:
    """The job with the folder to train it in: one that holds this very training, begun or finished, else its own.

    A training that also averages serves those who do not ask for it; one that does not is told, and made again.
    """
    for folder in places(output, job):
        if not (folder / CHECKPOINT).exists():
            continue
        stored = load_checkpoint(folder / CHECKPOINT).facts.get("settings", {})
        if "data" not in stored or changed_in(job.settings, stored):
            continue
        wanted, there = job.settings.average_epochs, stored.get("average_epochs", 0)
        if wanted and there != wanted:
            said(f"{folder}: averages {there} epochs, wanted {wanted}: trained again in {job.folder}")
            continue
        own = {key: stored[key] for key in ("average_epochs", *without_effect(job.settings)) if key in stored}
        return replace(job, settings=job.settings.model_copy(update=own)), folder
    return job, output / job.folder


def run_job(job: Job, folder: Path, observer: Observer) -> None:
    """Train (or go on where an interruption left it), evaluate each variant on the test pictures, write the results.

    Raises as train and evaluate_artefact, ConfigError where the pictures are not those of a training that is done.
    """
    lookup = Lookup()
    dataset, split_now = lookup.of(job.settings)
    content = lookup.content_of(job.settings)  # as they are now: the table may have been planned hours ago
    started = time.perf_counter()
    trained = train(job.settings, folder, observer, resume=True)
    seconds = time.perf_counter() - started
    for variant, file in job.variants:
        artefact = open_artefact(trained.checkpoint.with_name(file))
        split = Split.from_json(artefact.facts["split"])
        refuse_other_split(replace(split_now, withheld=split.withheld), artefact.facts["split"], trained.checkpoint)
        try:
            run = evaluate_artefact(
                artefact.backend,
                artefact.facts,
                artefact.threshold_source,
                dataset,
                "test",
                folder / f"report-{variant}",
            )
        finally:
            artefact.backend.close()
        result = {
            "row": job.row,
            "variant": variant,
            "fold": job.fold,
            "unit": job.unit,
            "seed": job.seed,
            "evaluated": evaluated(job, variant),
            "split": split.how,
            "splits_sha256": split.file_sha256,
            "pictures_sha256": pictures_digest(dataset, split),
            "content_sha256": content,
            "masks_withheld": len(split.withheld),
            "settings": job.settings.model_dump(mode="json", exclude=set(FREE)),
            "versions": artefact.facts["versions"],
            "device": artefact.facts["device"],
            "precision": artefact.facts["precision"],
            "positives": artefact.facts["positives"],
            "negatives": artefact.facts["negatives"],
            "epochs": len(trained.history),
            # Of all steps, whichever calls made them; null where an earlier version made some.
            "training_seconds": _all_seconds(trained.history),
            # Of this call: after an interruption only the part that was left.
            "training_seconds_of_last_call": round(seconds, 1),
            "peak_gpu_bytes": _peak_gpu_bytes(),
            "test_pictures_also_trained_on": len(run.trained_on),
            "evaluation": run.evaluation.to_json(),
        }
        write_atomic(result_path(folder, variant), json.dumps(result, indent=1))


def _all_seconds(history: Sequence[EpochRecord]) -> float | None:
    seconds = [record.seconds for record in history]
    known = [one for one in seconds if one is not None]
    return round(sum(known), 1) if len(known) == len(seconds) else None


def run_all(
    jobs: Sequence[Job],
    output: Path,
    observer_for: Callable[[Job], Any],
    said: Said,
    side_by_side: int,
    lookup: Lookup,
) -> None:
    """Run what is not done yet; side_by_side 1: here, one after the other; more: so many processes at a time; 0: on a
    GPU as many as fit by the memory that the first one took, elsewhere 1.

    SIGTERM and SIGHUP end the processes too. Raises as Lookup.refuse_unfit at first, then TrainingError
    naming the first run that failed, once those already begun have ended.
    """
    missing = [_missing(output, job) for job in jobs]
    lookup.refuse_unfit(job for job in missing if job.variants)
    waiting = [find_training(output, job, said) for job in missing if job.variants]
    said(f"{len(jobs)} trainings, {len(jobs) - len(waiting)} of them done already")
    while waiting and side_by_side <= 1:
        job, folder = waiting.pop(0)
        said(f"{job.folder} ({len(waiting)} more to go)")
        with observer_for(job) as observer:
            run_job(job, folder, observer)
        if side_by_side == 0:
            side_by_side = how_many_fit(*_gpu_memory(), len(waiting))
    _run_processes(waiting, side_by_side, said)


def _missing(output: Path, job: Job) -> Job:
    """The job with those variants alone that have no result yet. Raises as find_result."""
    left = tuple((name, file) for name, file in job.variants if find_result(output, job, name) is None)
    averages = any(file == AVERAGED for _, file in left)
    settings = job.settings if averages else job.settings.model_copy(update={"average_epochs": 0})
    return replace(job, variants=left, settings=settings) if left != job.variants else job


def how_many_fit(free_bytes: int, peak_bytes: int, waiting: int) -> int:
    """Trainings that fit into a GPU's free memory at once with a tenth to spare; 1 where no GPU was used."""
    if peak_bytes <= 0:
        return 1
    return max(1, min(waiting, int(0.9 * free_bytes) // peak_bytes))


def _run_processes(waiting: Sequence[tuple[Job, Path]], at_once: int, said: Said) -> None:
    running: list[tuple[Job, Path, subprocess.Popen[bytes]]] = []
    left, failed = list(waiting), list[str]()
    with _wish_to_stop() as asked_to_stop:
        try:
            while left or running:
                while left and not failed and not asked_to_stop and len(running) < at_once:
                    job, folder = left.pop(0)
                    running.append((job, folder, _start(job, folder)))
                    said(f"{job.folder}: started, see {folder / 'output.log'}")
                if asked_to_stop:
                    break
                ended = [one for one in running if one[2].poll() is not None]
                running = [one for one in running if one not in ended]
                for job, folder, process in ended:
                    said(f"{job.folder}: {'done' if process.returncode == 0 else f'failed, {_last_line(folder)}'}")
                    failed += [job.folder] if process.returncode else []
                if failed and not running:
                    break
                time.sleep(0.2)
        finally:
            for _, _, process in running:
                process.terminate()
            for _, _, process in running:
                process.wait()
    if asked_to_stop:
        hand_on(asked_to_stop[0])
    if failed:
        first = next(job.folder for job, _ in waiting if job.folder in failed)
        raise TrainingError(f"{len(failed)} trainings failed, first {first}: see its output.log, then start again.")


@contextmanager
def _wish_to_stop() -> Iterator[list[int]]:
    """The signals that came, as a list: a process just started is in nobody's list yet when an exception arrives."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    ending = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is not signal.SIG_IGN]
    before = {one: signal.signal(one, lambda number, _: came.append(number)) for one in ending}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(job: Job, folder: Path) -> subprocess.Popen[bytes]:
    make_folder(folder)
    write_atomic(folder / JOB, json.dumps(job_to_json(job), indent=1))
    with (folder / "output.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "segdec_edge.reproduce.worker", str(folder)], stdout=log, stderr=subprocess.STDOUT
        )


def _last_line(folder: Path) -> str:
    lines = (folder / "output.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "without a word"


def job_to_json(job: Job) -> dict[str, Any]:
    return {
        "row": job.row, "variants": job.variants, "fold": job.fold, "seed": job.seed, "unit": job.unit,
        "settings": job.settings.model_dump(mode="json"),
    }  # fmt: skip


def job_from_json(values: Mapping[str, Any]) -> Job:
    settings = train_settings(values["settings"], JOB)
    variants = tuple((str(name), str(file)) for name, file in values["variants"])
    return Job(values["row"], variants, values["fold"], values["seed"], settings, values["unit"])


def _peak_gpu_bytes() -> int:
    import torch

    return int(torch.cuda.max_memory_reserved()) if torch.cuda.is_available() else 0


def _gpu_memory() -> tuple[int, int]:
    """Free bytes on the GPU, with what this process holds given back, and the most that a training took."""
    import torch

    if not torch.cuda.is_available():
        return 0, 0
    peak = _peak_gpu_bytes()
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info()[0]), peak
