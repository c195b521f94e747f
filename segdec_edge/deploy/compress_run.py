"""segdec compress: the fewest operations at the same accuracy, found on training pictures, judged by the gate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from segdec_edge.bundle import Bundle, read_bundle, require_replaceable
from segdec_edge.data.samples import Sample
from segdec_edge.data.splits import Split
from segdec_edge.deploy.compress import Spectrum, choose_ranks, factorised, require_folded, spectra, without_dead
from segdec_edge.deploy.distil import DEFAULT, Recipe, StepProgress, Targets
from segdec_edge.deploy.gate import MAX_AP_DROP, Comparison, dataset_of, exam_for, pass_gate
from segdec_edge.deploy.graph_read import read_network
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
    tuned,
    wanted_of,
)
from segdec_edge.deploy.shift import Shift, score_graph, shift_of
from segdec_edge.errors import BundleError, GateError
from segdec_edge.evaluation.scoring import ScoredSample
from segdec_edge.files import make_folder, write_atomic

SHARES = (0.3, 0.2, 0.14, 0.1, 0.07, 0.05, 0.035, 0.025)
"""Shares of the operations that are tried, a factor of about 1.4 apart."""


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

    Which share is the smallest that passes is decided on validation pictures, or on the training ones where the split
    has no validation; the gate then judges that one on job.subset. Raises GateError, BundleError, CalibrationError.
    """
    require_replaceable(job.out)
    search = search or Search.prepare(job, say, progress)
    opened = search.opened
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
        max_ap_drop=job.max_ap_drop if job.gate_drop is None else job.gate_drop,
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
    everything: Material
    targets: Targets
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
        exam_for(opened.bundle, job.data, job.subset, job.backend)  # what refuses it must not come after the work
        everything = material_of(opened)
        few = material_of(opened, min(job.pictures, len(everything.pixels)))
        say(f"measuring what each layer gives out on {len(few.pixels)} of {len(everything.pixels)} training pictures")
        found = spectra(opened.network, few.pixels, opened.spec.size_hw)
        teacher = opened.network if job.teacher is None else _teacher(job.teacher, opened)
        say(f"scoring {len(everything.pixels)} training pictures with the network to learn from")
        targets = wanted_of(teacher, everything, job.recipe, job.work)
        selection, chosen_on = _selection(opened, job.data)
        say(f"scoring {len(selection)} {chosen_on} pictures with the bundle as it is")
        scored = score_graph(opened.bundle.model_path.read_bytes(), opened.spec, job.backend, selection)
        return Search(job, opened, found, few, everything, targets, selection, chosen_on, scored, say, progress)

    def only(self, share: float) -> tuple[list[Candidate], tuple[Candidate, bytes] | None]:
        """The share that was asked for, whatever it does: the gate judges it."""
        made = self.candidate(share)
        return [made[0]], made

    def found(self) -> tuple[list[Candidate], tuple[Candidate, bytes] | None]:
        """The curve, and the smallest share that passes: from the middle of SHARES downwards, or else upwards.

        Small candidates are tuned fastest, so the large ones are made only where they are needed.
        """
        middle = len(SHARES) // 2
        curve: list[Candidate] = []
        best: tuple[Candidate, bytes] | None = None
        for share in SHARES[middle:]:
            made = self.candidate(share)
            curve.append(made[0])
            if not made[0].passed:
                break
            best = made
        for share in reversed(SHARES[:middle]):
            if best is not None:
                break
            made = self.candidate(share)
            curve.insert(0, made[0])
            best = made if made[0].passed else None
        return curve, best

    def candidate(self, share: float) -> tuple[Candidate, bytes]:
        """One point of the curve with its model.onnx; what an earlier run left in the work folder is taken again."""
        job, ranks = self.job, choose_ranks(self.spectra, share)
        kept = None if job.work is None else job.work / f"{self._key(ranks)}.onnx"
        if kept is not None and kept.exists():
            content = kept.read_bytes()
        else:
            content = self._made(share, ranks)
            if kept is not None:
                make_folder(kept.parent)
                write_atomic(kept, content)
        shift, before = self._shift(content), self.before
        passed = shift.keeps(before, job.max_ap_drop) and shift.fp <= before.fp
        count = sum(operations(read_network(content), self.opened.spec.size_hw).values())
        self.say(
            f"{share:.1%}: {count / 1e9:.1f} GFLOP, {self.chosen_on} AP {_ap(shift)} (was {_ap(before)}), FP {shift.fp}"
            f" ({before.fp}), FN {shift.fn} ({before.fn}): {'kept' if passed else 'too far'}"
        )
        return Candidate(share, count, ranks, shift, passed), content

    def _made(self, share: float, ranks: Mapping[str, int]) -> bytes:
        self.say(f"{share:.1%} of the operations: factorising {len(ranks)} layers")
        network = without_dead(factorised(self.opened.network, self.few.pixels, ranks), self.few.pixels)
        network = tuned(network, self.everything, self.job.recipe, self.targets, self.progress)
        return content_of(network, self.opened.spec)

    def _key(self, ranks: Mapping[str, int]) -> str:
        """Everything that a candidate's weights depend on, as a hash."""
        targets = hashlib.sha256(self.targets.decision.tobytes() + self.targets.segmentation.tobytes()).hexdigest()
        parts = [self.opened.bundle.spec.sha256, targets, asdict(self.job.recipe), len(self.few.pixels), dict(ranks)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def _shift(self, content: bytes) -> Shift:
        scored = score_graph(content, self.opened.spec, self.job.backend, self.selection)
        return shift_of(scored, self.scored, self.opened.spec.threshold)


def _teacher(path: Path, opened: Opened) -> Network:
    bundle = read_bundle(path)
    if bundle.spec.size_hw != opened.spec.size_hw or bundle.spec.channels != opened.spec.channels:
        raise BundleError(f"{path}: takes other pictures than {opened.bundle.path}. Give what that was folded from.")
    return read_network(bundle.model_path.read_bytes())


def _selection(opened: Opened, data: str | None) -> tuple[tuple[Sample, ...], str]:
    split = Split.from_json(opened.bundle.split() or {})
    if split.validation:
        return tuple(dataset_of(opened.bundle, data).named(split.validation)), "validation"
    return opened.samples, "training"


def _ap(shift: Shift) -> str:
    return "none" if shift.ap is None else f"{shift.ap:.4f}"


def _note(chosen: Candidate, before: int, recipe: Recipe) -> str:
    ranks = ", ".join(f"{name} {rank}" for name, rank in chosen.ranks.items())
    tuning = f", {recipe.steps} steps of distillation" if recipe.steps else ""
    return f"{before / 1e9:.1f} → {chosen.operations / 1e9:.1f} GFLOP; ranks {ranks}{tuning}"
