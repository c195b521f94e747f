"""segdec bench: try every form in a process of its own, score it, then time all of them in turns. Draws nothing.

The order: trials (one process a form), peaks of the machine, accuracy, sittings (all forms open at the same time, in
turns), throughput windows (in turns too, but one form at a time), then the record.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from segdec_edge.bench import stages
from segdec_edge.bench.accuracy import Exams, exams_for
from segdec_edge.bench.energy import open_meter
from segdec_edge.bench.forms import Form, Found, Wish, forms_of
from segdec_edge.bench.lines import Entrant, Measured, key_of, line_of
from segdec_edge.bench.machine import code_of, condition_flags, conditions, machine_of
from segdec_edge.bench.peaks import ceilings, usable_cores
from segdec_edge.bench.record import BenchRecord, Ceiling, NotRun, Settings
from segdec_edge.bench.roofline import best_of
from segdec_edge.bench.stages import Trial, prepared, require_room, try_form, turn_of
from segdec_edge.bench.throughput import Crew, Window, crews_of, window
from segdec_edge.data.words import without_folders
from segdec_edge.doctor import examine
from segdec_edge.errors import ConfigError
from segdec_edge.timing import CALLS, COLD, Sitting, Turn, Visit, drift_flag, restless_flag, sit_down
from segdec_edge.types import Pixels

ROUNDS, SITTINGS, PASSES, WARM_UP, WINDOW_S = 48, 6, 3, 2, 1.0
_PICTURES = 8


@dataclass(frozen=True)
class Job:
    """rounds: in all sittings together; calls: timed in each turn; cold: time the first call of a turn instead;
    window_s: of a throughput window, 0 for none; data: a data set's spec, for pictures and accuracy; peaks: measure the
    machine's."""

    wish: Wish
    batches: tuple[int, ...] = (1,)
    data: str | None = None
    subset: str = "test"
    rounds: int = ROUNDS
    sittings: int = SITTINGS
    calls: int = CALLS
    cold: bool = False
    seed: int = 0
    threads: int | None = None
    window_s: float = WINDOW_S
    peaks: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.sittings <= self.rounds:
            raise ConfigError(
                f"{self.rounds} rounds in {self.sittings} sittings, wanted a round a sitting or more. Change --rounds."
            )
        if self.calls < 1:
            raise ConfigError(f"{self.calls} timed calls a turn, wanted at least one. Change --calls.")
        if not self.batches or min(self.batches) < 1:
            raise ConfigError(f"batches {self.batches}, wanted sizes of at least 1, as 1,4,8. Change --batch.")

    @property
    def visit(self) -> Visit:
        return COLD if self.cold else Visit(calls=self.calls)


class Progress:
    """What a run tells meanwhile: the phase, and how much of all that it plans is done. This one is silent."""

    def phase(self, words: str, steps: int) -> None: ...

    def step(self) -> None: ...


def run_bench(job: Job, peers: Sequence[Form] = (), progress: Progress | None = None) -> BenchRecord:
    """Measure everything that this machine can run. peers: further forms, measured in the same rounds.

    Raises ConfigError where nothing runs, BundleError, CheckpointError, DataError, BackendError (no room in memory).
    """
    return _Run(job, peers, progress or Progress()).record()


@dataclass
class _Run:
    job: Job
    peers: Sequence[Form]
    progress: Progress
    trials: dict[str, Trial] = field(default_factory=dict)
    load_ms: dict[str, list[float]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def record(self) -> BenchRecord:
        started, before, machine = time.monotonic(), conditions(), machine_of()
        found = forms_of(self.job.wish)
        found.forms.extend(self.peers)
        exams = exams_for(self.job.data, self.job.subset, found.forms)
        pictures, words = self._pictures(found.forms, exams)
        forms = self._tried(found, pictures)
        measured = self._measured(forms, exams, pictures)
        after = conditions()
        infer = {entrant: measured.samples(entrant, stages.INFER) for entrant in measured.entrants}
        flags = [*condition_flags(before, after, machine.cores), drift_flag(infer), restless_flag(measured.sittings)]
        return BenchRecord(
            machine=machine,
            before=before,
            after=after,
            code=code_of(),
            settings=self._settings(words, pictures[0].shape[:2]),
            lines=tuple(line_of(entrant, measured) for entrant in measured.entrants),
            not_run=tuple(found.not_run),
            ceilings=measured.ceilings,
            seconds=time.monotonic() - started,
            order=tuple(
                tuple(key_of(one) for one in drawn) for sitting in measured.sittings for drawn in sitting.order
            ),
            flags=tuple(flag for flag in flags if flag),
        )

    def _measured(self, forms: Sequence[Form], exams: Exams, pictures: Sequence[Pixels]) -> Measured:
        early = self._peaks(forms)
        if exams.exam is not None:
            words = f"scoring {len(exams.exam.samples)} pictures with each form at each batch size"
            self.progress.phase(words, len(self._entrants(forms)))
        accuracy = exams.marks(forms, self._entrants(forms), self.progress.step)
        sittings, windows = self._sittings(forms, pictures), self._windows(forms, pictures)
        return Measured(
            forms={form.key: form for form in forms},
            entrants=self._entrants(forms),
            ceilings=best_of(early, self._peaks(forms)),
            accuracy=accuracy,
            sittings=sittings,
            load_ms=self.load_ms,
            trials=self.trials,
            windows=windows,
            energy_source=self.sources,
            seed=self.job.seed,
        )

    def _settings(self, pictures: str, source_hw: tuple[int, ...]) -> Settings:
        job = self.job
        return Settings(
            rounds=job.rounds // job.sittings * job.sittings,
            sittings=job.sittings,
            warm_up=WARM_UP,
            untimed=job.visit.untimed,
            calls=job.visit.calls,
            seed=job.seed,
            threads=job.threads,
            pictures=pictures,
            source_hw=(source_hw[0], source_hw[1]),
            data=without_folders(job.data or "") or None,
            subset=job.subset if job.data else None,
            window_s=job.window_s,
        )

    def _pictures(self, forms: Sequence[Form], exams: Exams) -> tuple[list[Pixels], str]:
        distinct = {(form.spec.size_hw, form.spec.channels): form.spec for form in forms}
        real, passed = exams.pictures(_PICTURES, list(distinct.values()))
        if real:
            skipped = f"; passed over, as they cannot be judged: {', '.join(passed)}" if passed else ""
            name = without_folders(self.job.data or "")
            return real, f"{len(real)} {self.job.subset} pictures of {name}, as the camera gives them{skipped}"
        if not forms:
            return [np.zeros((1, 1), np.uint8)], "none"
        spec = forms[0].spec
        size_hw = spec.source_hw[1] if spec.source_hw else spec.size_hw
        made = made_pictures(_PICTURES, size_hw, spec.channels)
        return made, f"{len(made)} made pictures of smooth noise, {size_hw[0]}x{size_hw[1]}"

    def _tried(self, found: Found, pictures: Sequence[Pixels]) -> list[Form]:
        """The forms that run at one batch size at least; why the others do not goes into found.not_run."""
        self.progress.phase("trying each form in a process of its own", len(found.forms))
        with TemporaryDirectory(prefix="segdec_bench_") as folder:
            path = Path(folder) / "picture.npy"
            np.save(path, pictures[0])
            for form in found.forms:
                if form.source is not None:
                    trial = try_form(form, path, self.job.batches, self.job.threads)
                    self.trials[form.key] = trial
                    _note_refusals(form, trial, found.not_run)
                found.not_run.extend(_too_large(form, self.job.batches, self.trials.get(form.key, Trial())))
                self.progress.step()
        forms = [form for form in found.forms if self._batches(form)]
        if not forms:
            reasons = " ".join(f"{one.name} {one.backend}: {one.reason}" for one in found.not_run[:3])
            raise ConfigError(f"nothing to bench runs here. {reasons}")
        return forms

    def _batches(self, form: Form) -> list[int]:
        trial = self.trials.get(form.key, Trial())
        largest = form.spec.max_batch or max(self.job.batches)
        if trial.refused:
            return []
        return [batch for batch in self.job.batches if batch <= largest and batch not in (trial.refusals or {})]

    def _entrants(self, forms: Sequence[Form]) -> list[Entrant]:
        return [(form.key, batch) for form in forms for batch in self._batches(form)]

    def _peaks(self, forms: Sequence[Form]) -> Mapping[str, Ceiling]:
        if not self.job.peaks:
            return {}
        self.progress.phase("measuring the machine's peaks", 1)
        found = ceilings([form.backend.split("/")[0] for form in forms], self.job.threads)
        self.progress.step()
        return found

    def _sittings(self, forms: Sequence[Form], pictures: Sequence[Pixels]) -> list[Sitting[Entrant]]:
        job, rng = self.job, np.random.default_rng(self.job.seed)
        require_room(forms, self.trials, examine().free_gib)
        rounds = job.rounds // job.sittings
        self.progress.phase("timing in turns", rounds * job.sittings * len(self._entrants(forms)))
        found = []
        for number in range(job.sittings):
            with ExitStack() as opened:
                turns = self._opened(forms, pictures, opened)
                first = number * rounds
                sitting = sit_down(
                    turns, rounds, rng, visit=job.visit, warm_up=WARM_UP, first_round=first, done=self.progress.step
                )
                found.append(sitting)
        return found

    def _opened(self, forms: Sequence[Form], pictures: Sequence[Pixels], opened: ExitStack) -> dict[Entrant, Turn]:
        turns = {}
        for form in forms:
            start = time.perf_counter_ns()
            peer = opened.enter_context(closing(form.open(self.job.threads)))
            self.load_ms.setdefault(form.key, []).append((time.perf_counter_ns() - start) / 1e6)
            for batch in self._batches(form):
                turns[form.key, batch] = turn_of(peer, form.spec, pictures, batch)
        return turns

    def _windows(self, forms: Sequence[Form], pictures: Sequence[Pixels]) -> dict[Entrant, dict[Crew, list[Window]]]:
        if not self.job.window_s:
            return {}
        entrants = self._entrants(forms)
        by_key, cores = {form.key: form for form in forms}, usable_cores()
        found: dict[Entrant, dict[Crew, list[Window]]] = {
            (key, batch): {crew: [] for crew in crews_of(by_key[key], cores, self.job.threads)}
            for key, batch in entrants
        }
        self.progress.phase("throughput", PASSES * sum(map(len, found.values())))
        for key, batch in entrants * PASSES:
            for crew, windows in found[key, batch].items():
                windows.append(self._window(by_key[key], batch, pictures, crew))
                self.progress.step()
        return found

    def _window(self, form: Form, batch: int, pictures: Sequence[Pixels], crew: Crew) -> Window:
        pixels = prepared([pictures[index % len(pictures)] for index in range(batch)], form.spec)
        meter = open_meter(form.on_gpu)
        if meter is not None:
            self.sources[form.key] = meter.source
        return window(form, pixels, self.job.window_s, crew, meter)


def made_pictures(count: int, size_hw: tuple[int, int], channels: int, seed: int = 0) -> list[Pixels]:
    """Smooth noise with contrast, (H, W) or (H, W, 3): for timing alone."""
    import cv2

    rng = np.random.default_rng(seed)
    height, width = size_hw
    pictures = []
    for _ in range(count):
        coarse = rng.normal(120, 40, (max(1, height // 16), max(1, width // 16))).astype(np.float32)
        noise = cv2.resize(coarse, (width, height)) + rng.normal(0, 4, size_hw)
        grey = noise.clip(0, 255).astype(np.uint8)
        pictures.append(grey if channels == 1 else np.repeat(grey[..., None], 3, axis=2))
    return pictures


def _note_refusals(form: Form, trial: Trial, not_run: list[NotRun]) -> None:
    if trial.refused:
        not_run.append(NotRun(name=form.name, backend=form.backend, batch=None, reason=form.told(trial.refused)))
    for batch, reason in (trial.refusals or {}).items():
        not_run.append(NotRun(name=form.name, backend=form.backend, batch=batch, reason=form.told(reason)))


def _too_large(form: Form, batches: Sequence[int], trial: Trial) -> list[NotRun]:
    most = form.spec.max_batch
    return [
        NotRun(name=form.name, backend=form.backend, batch=batch, reason=f"takes at most {most} pictures at a time")
        for batch in batches
        if most is not None and batch > most and not trial.refused and batch not in (trial.refusals or {})
    ]
