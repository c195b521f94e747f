"""segdec compress: the fewest operations at the same accuracy, found on training pictures, judged by the gate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from segdec_edge.bundle import Bundle, read_bundle
from segdec_edge.data.samples import Sample
from segdec_edge.data.splits import Split, split_by_part
from segdec_edge.deploy.compress import Spectrum, choose_ranks, factorised, require_folded, spectra, without_dead
from segdec_edge.deploy.distil import DEFAULT, Recipe, StepProgress
from segdec_edge.deploy.faint import faint_defects
from segdec_edge.deploy.gate import (
    MAX_AP_DROP,
    Comparison,
    dataset_of,
    exam_for,
    pass_gate,
    require_elsewhere,
    require_exam,
)
from segdec_edge.deploy.graph_read import read_network
from segdec_edge.deploy.lessons import Lessons, lessons_of
from segdec_edge.deploy.network import Network, operations
from segdec_edge.deploy.rebuild import (
    PICTURES,
    Material,
    Opened,
    Say,
    content_of,
    facts_of_content,
    material_of,
    open_for_rebuilding,
)
from segdec_edge.deploy.shift import Shift, score_graph, shift_of
from segdec_edge.errors import BundleError, DataError, GateError
from segdec_edge.evaluation.scoring import ScoredSample
from segdec_edge.files import make_folder, write_atomic

SHARES = (0.4, 0.3, 0.2, 0.15, 0.12, 0.1, 0.07, 0.05, 0.035, 0.025)
"""Shares of the operations that are tried."""
FIRST = 0.15
HELD_BACK = 1 / 3
"""Of the training parts, where no validation pictures can choose: kept from what candidates learn on."""


@dataclass(frozen=True)
class CompressJob:
    """What to compress and how. teacher: the bundle to distil from, None for the one given; share: of the operations,
    None to find the smallest one that passes. work: a folder where candidates are kept for a later run; gate_drop: what
    the gate allows, None for max_ap_drop, which the search allows."""

    bundle: Path
    out: Path
    teacher: Path | None = None
    data: str | None = None
    pictures: int = PICTURES
    share: float | None = None
    recipe: Recipe = DEFAULT
    subset: str = "test"
    max_ap_drop: float = MAX_AP_DROP
    backend: str = "auto"
    work: Path | None = None
    gate_drop: float | None = None


@dataclass(frozen=True)
class Candidate:
    """One point of the curve: operations a picture, ranks by layer, and how its scores moved on the selection."""

    share: float
    operations: int
    ranks: Mapping[str, int]
    shift: Shift
    passed: bool


@dataclass(frozen=True)
class Compressed:
    bundle: Bundle
    comparison: Comparison
    before: int
    after: int
    curve: tuple[Candidate, ...]
    chosen_on: str


def compress_bundle(
    job: CompressJob, say: Say, progress: StepProgress | None = None, search: Search | None = None
) -> Compressed:
    """Write job.out, or nothing where none of the candidates keeps its accuracy. search: one prepared for the same
    bundle, teacher and data before.

    Which share is the smallest that passes is decided on validation pictures. Where the split has none, a third of the
    training parts is held back from what the candidates learn on, and decides; the share that it chose is then made
    again from all of them. The gate judges that one on job.subset. Raises GateError, BundleError, CalibrationError.
    """
    require_elsewhere(job.out, job.bundle, *([job.teacher] if job.teacher else []))
    search = search or Search.prepare(job, say, progress)
    opened, gate_drop = search.opened, _gate_drop(job)
    exam = exam_for(opened.bundle, job.data, job.subset, job.backend)
    curve, best = search.found() if job.share is None else search.only(job.share)
    if best is None:
        raise GateError(
            f"{job.bundle}: no share of its operations down from {SHARES[0]:g} keeps what it does on the"
            f" {search.chosen_on} pictures. Give more --pictures or --steps, or allow more with --max-ap-drop."
        )
    chosen, content = best
    before = sum(operations(opened.network, opened.spec.size_hw).values())
    bundle, comparison = pass_gate(
        opened.bundle,
        job.out,
        content,
        facts_of_content(content),
        exam,
        step="compress",
        note=_note(chosen, before, job.recipe),
        extra={"curve": [asdict(one) for one in curve], "chosen_on": search.chosen_on},
        max_ap_drop=gate_drop,
        say=say,
    )
    return Compressed(bundle, comparison, before, chosen.operations, tuple(curve), search.chosen_on)


@dataclass(frozen=True)
class Search:
    """What every candidate is made and judged with."""

    job: CompressJob
    opened: Opened
    spectra: Mapping[str, Spectrum]
    few: Material
    lessons: Lessons
    held_back: frozenset[str]
    selection: tuple[Sample, ...]
    chosen_on: str
    scored: tuple[ScoredSample, ...]
    say: Say
    progress: StepProgress | None

    @property
    def before(self) -> Shift:
        """The bundle as it is, beside itself."""
        return shift_of(self.scored, self.scored, self.opened.spec.threshold)

    @staticmethod
    def prepare(job: CompressJob, say: Say, progress: StepProgress | None = None) -> Search:
        """Measure what all candidates are made from. Raises BundleError, CalibrationError, DataError."""
        opened = open_for_rebuilding(job.bundle, job.data)
        require_folded(opened.network)
        # What refuses it must not come after the work.
        require_exam(exam_for(opened.bundle, job.data, job.subset, job.backend), _gate_drop(job))
        selection, chosen_on, held_back = _selection(opened, job)
        everything = material_of(opened)
        able = sum(name not in held_back for name in everything.names)
        few = material_of(opened, min(job.pictures, able), without=held_back)
        say(f"measuring what each layer gives out on {len(few.pixels)} of {len(everything.pixels)} training pictures")
        found = spectra(opened.network, few.pixels, opened.spec.size_hw)
        teacher = opened.network if job.teacher is None else _teacher(job.teacher, opened)
        say(f"scoring {len(everything.pixels)} training pictures with the network to learn from")
        faint = faint_defects(everything, opened.samples, held_back) if job.recipe.steps else None
        lessons = lessons_of(teacher, everything, job.recipe, faint, job.work)
        say(f"scoring {len(selection)} {chosen_on} pictures with the bundle as it is")
        scored = score_graph(opened.bundle.model_path.read_bytes(), opened.spec, job.backend, selection)
        return Search(job, opened, found, few, lessons, held_back, selection, chosen_on, scored, say, progress)

    def only(self, share: float) -> tuple[list[Candidate], tuple[Candidate, bytes] | None]:
        """The share that was asked for, whatever it does: the gate judges it."""
        made = self.candidate(share)
        return [made[0]], made

    def found(self) -> tuple[list[Candidate], tuple[Candidate, bytes] | None]:
        """The curve, and the smallest share that passes: from FIRST downwards, or else upwards.

        Small candidates are tuned fastest, so the large ones are made only where they are needed.
        """
        curve: list[Candidate] = []
        best: tuple[Candidate, bytes] | None = None
        lessons = self.lessons.without(self.held_back)
        for share in self._downwards():
            made = self.candidate(share, lessons)
            curve.append(made[0])
            if not made[0].passed:
                break
            best = made
        for share in sorted(one for one in SHARES if one > FIRST):
            if best is not None:
                break
            made = self.candidate(share, lessons)
            curve.insert(0, made[0])
            best = made if made[0].passed else None
        if best is not None and self.held_back:
            self.say(f"{best[0].share:.1%} of the operations again, from all training pictures")
            best = best[0], self._content(best[0].share, best[0].ranks, self.lessons)
        return curve, best

    def _downwards(self) -> list[float]:
        """Shares from FIRST on that lead to other ranks: there is a lowest one."""
        ranks = {share: choose_ranks(self.spectra, share) for share in SHARES if share <= FIRST}
        return [share for share, larger in zip(ranks, [None, *ranks.values()], strict=False) if ranks[share] != larger]

    def candidate(self, share: float, lessons: Lessons | None = None) -> tuple[Candidate, bytes]:
        """One point of the curve with its model.onnx, from these lessons or all."""
        job, ranks = self.job, choose_ranks(self.spectra, share)
        content = self._content(share, ranks, lessons or self.lessons)
        shift, before = self._shift(content), self.before
        passed = shift.keeps(before, job.max_ap_drop) and shift.fp <= before.fp
        count = sum(operations(read_network(content), self.opened.spec.size_hw).values())
        self.say(
            f"{share:.1%}: {count / 1e9:.1f} GFLOP, {self.chosen_on} AP {_ap(shift)} (was {_ap(before)}), FP {shift.fp}"
            f" ({before.fp}), FN {shift.fn} ({before.fn}), logits {shift.mean_logit:.2f} apart:"
            f" {'kept' if passed else 'too far'}"
        )
        return Candidate(share, count, ranks, shift, passed), content

    def _content(self, share: float, ranks: Mapping[str, int], lessons: Lessons) -> bytes:
        """Its model.onnx; what an earlier run left in the work folder is taken again."""
        job = self.job
        if job.work is None:
            return self._made(share, ranks, lessons)
        kept = job.work / f"{self._key(ranks, lessons)}.onnx"
        if not kept.exists():
            content = self._made(share, ranks, lessons)
            make_folder(kept.parent)
            write_atomic(kept, content)
        return kept.read_bytes()

    def _made(self, share: float, ranks: Mapping[str, int], lessons: Lessons) -> bytes:
        self.say(f"{share:.1%} of the operations: factorising {len(ranks)} layers")
        network = without_dead(factorised(self.opened.network, self.few.pixels, ranks), self.few.pixels)
        network = lessons.tuned(network, self.job.recipe, self.progress)
        return content_of(network, self.opened.spec)

    def _key(self, ranks: Mapping[str, int], lessons: Lessons) -> str:
        """Everything that a candidate's weights depend on, as a hash."""
        taught = hashlib.sha256()
        for lesson in (lessons.plain, *lessons.more):
            taught.update(lesson.targets.decision.tobytes() + lesson.targets.segmentation.tobytes())
        parts = [
            self.opened.bundle.spec.sha256,
            taught.hexdigest(),
            asdict(self.job.recipe),
            self.few.names,
            dict(ranks),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def _shift(self, content: bytes) -> Shift:
        scored = score_graph(content, self.opened.spec, self.job.backend, self.selection)
        return shift_of(scored, self.scored, self.opened.spec.threshold)


def _teacher(path: Path, opened: Opened) -> Network:
    bundle = read_bundle(path)
    if bundle.spec.size_hw != opened.spec.size_hw or bundle.spec.channels != opened.spec.channels:
        raise BundleError(f"{path}: takes other pictures than {opened.bundle.path}. Give what that was folded from.")
    return read_network(bundle.model_path.read_bytes())


def _gate_drop(job: CompressJob) -> float:
    return job.max_ap_drop if job.gate_drop is None else job.gate_drop


def _selection(opened: Opened, job: CompressJob) -> tuple[tuple[Sample, ...], str, frozenset[str]]:
    """The pictures that choose, what they are in words, and the names of those that must not be learnt from meanwhile.

    Validation pictures, or training ones that are held back; where either is of one kind alone, on which any share
    would pass, all training pictures.
    """
    split, dataset = Split.from_json(opened.bundle.split() or {}), dataset_of(opened.bundle, job.data)
    validation, training = (tuple(dataset.named(names)) for names in (split.validation, split.train))
    if _both_kinds(validation):
        return validation, "validation", frozenset()
    if job.share is not None:
        return training, "training", frozenset()
    apart = split_by_part(replace(dataset, samples=training), job.recipe.seed, HELD_BACK, 0)
    held_back = tuple(dataset.named(apart.validation))
    if _both_kinds(held_back) and _both_kinds(dataset.named(apart.train)):
        return held_back, "held-back training", frozenset(apart.validation)
    if _both_kinds(training):
        return training, "training", frozenset()
    raise DataError(
        f"{opened.bundle.path}: neither its validation nor its training pictures hold both good and defective ones, so"
        " none can choose a share. Give one: --share 0.3"
    )


def _both_kinds(samples: Iterable[Sample]) -> bool:
    return len({sample.positive for sample in samples}) == 2


def _ap(shift: Shift) -> str:
    return "none" if shift.ap is None else f"{shift.ap:.4f}"


def _note(chosen: Candidate, before: int, recipe: Recipe) -> str:
    ranks = ", ".join(f"{name} {rank}" for name, rank in chosen.ranks.items())
    tuning = f", {recipe.steps} steps of distillation" if recipe.steps else ""
    return f"{before / 1e9:.1f} → {chosen.operations / 1e9:.1f} GFLOP; ranks {ranks}{tuning}"
