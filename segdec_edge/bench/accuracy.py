"""AP, FP and FN of the very artefact that is timed, on the very backend: deploy.gate's exam, sat by each form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from segdec_edge.bench.forms import TORCH, Form, Peer, reference_key
from segdec_edge.bench.lines import Entrant, key_of
from segdec_edge.bench.record import Accuracy
from segdec_edge.bench.stages import prepared
from segdec_edge.bundle import read_bundle
from segdec_edge.data.spec import open_dataset
from segdec_edge.deploy.gate import Exam, Marks, compare, exam_for, sit
from segdec_edge.deploy.held_out import require_held_out
from segdec_edge.errors import DataError, PictureError, SegdecError
from segdec_edge.evaluation.run import choose_samples
from segdec_edge.types import ModelSpec, Pixels, Prediction

_STRANGER = "trained with another split: the pictures that the others are held to may have been trained on"


@dataclass(frozen=True)
class Exams:
    """exam: None without --data; strangers: forms whose own split has other pictures in that subset, by key."""

    exam: Exam | None = None
    strangers: frozenset[str] = field(default_factory=frozenset)

    def pictures(self, count: int, specs: Sequence[ModelSpec]) -> tuple[list[Pixels], list[str]]:
        """The first so many that every spec can judge, as they lie on disk, and the names of those passed over.

        Raises DataError where none can be judged.
        """
        read: list[Pixels] = []
        passed: list[str] = []
        first = ""
        for sample in self.exam.samples if self.exam else ():
            if len(read) == count:
                break
            try:
                whole = sample.read()
                for spec in specs:
                    prepared([whole], spec, sample.name)
                read.append(whole)
            except PictureError as error:
                passed.append(sample.name)
                first = first or str(error)
        if passed and not read:
            raise DataError(f"{first} None of {len(passed)} pictures can be judged, so there is nothing to time.")
        return read, passed

    def marks(
        self, forms: Sequence[Form], entrants: Sequence[Entrant], done: Callable[[], None]
    ) -> Mapping[Entrant, Accuracy]:
        """How each form did at each of its batch sizes; empty without an exam."""
        if self.exam is None:
            return {}
        found: dict[Entrant, Marks | str] = {}
        for form in forms:
            own = [entrant for entrant in entrants if entrant[0] == form.key]
            stranger = form.key in self.strangers
            found.update(dict.fromkeys(own, _STRANGER) if stranger else _marks(form, own, self.exam))
            for _ in own:
                done()
        key = reference_key(forms)
        reference = next(entrant for entrant in entrants if entrant[0] == key)
        defective = sum(sample.positive for sample in self.exam.samples)
        return {
            one: _told(marks, found[reference], key_of(reference), one == reference, defective)
            for one, marks in found.items()
        }


def _marks(form: Form, entrants: Sequence[Entrant], exam: Exam) -> dict[Entrant, Marks | str]:
    """Or why there are none."""
    found: dict[Entrant, Marks | str] = {}
    try:
        with closing(form.open(None)) as peer:
            for entrant in entrants:
                found[entrant] = sit(_Candidate(peer, form.spec, form.backend), exam, batch=entrant[1])
    except SegdecError as error:
        return {**dict.fromkeys(entrants, form.told(str(error))), **found}
    return found


def _told(marks: Marks | str, over: Marks | str, reference: str, is_reference: bool, defective: int) -> Accuracy:
    if isinstance(marks, str):
        return Accuracy(unknown=marks)
    told = marks.accuracy
    plain = Accuracy(
        ap=told.ap, fp=told.fp, fn=told.fn, pictures=told.pictures, defective=defective, threshold=told.threshold
    )
    if isinstance(over, str) or is_reference:
        return plain
    found = compare(over, marks)
    return plain.model_copy(
        update={"over": reference, "verdicts_changed": len(found.flips), "scores_apart": found.score_rms}
    )


def exams_for(data: str | None, subset: str, forms: Sequence[Form]) -> Exams:
    """The exam of the first form, which all sit; a peer from elsewhere sits it too. Raises DataError, BundleError."""
    own = [(form, form.source.path) for form in forms if form.source is not None]
    if data is None or not own:
        return Exams()
    known: dict[Path, Exam] = {}
    for form, path in own:
        if path not in known:
            known[path] = _exam(form, path, data, subset)
    named = {form.key: _names(known[path]) for form, path in own}
    first = next(iter(named.values()))
    return Exams(next(iter(known.values())), frozenset(key for key, names in named.items() if names != first))


def _exam(form: Form, path: Path, data: str, subset: str) -> Exam:
    if form.backend != TORCH:
        return exam_for(read_bundle(path), data, subset)
    from segdec_edge.model.checkpoint import load_checkpoint

    dataset, facts = open_dataset(data), load_checkpoint(path).facts
    require_held_out(facts, form.spec, dataset, subset, path)
    return Exam(dataset.spec, subset, tuple(choose_samples(dataset, facts, subset)))


def _names(exam: Exam) -> list[str]:
    return [sample.name for sample in exam.samples]


@dataclass(frozen=True)
class _Candidate:
    """A peer as a Backend: it has a spec and a name."""

    peer: Peer
    spec: ModelSpec
    name: str

    def infer(self, pixels: Pixels) -> Prediction:
        return self.peer.infer(pixels)

    def close(self) -> None: ...
