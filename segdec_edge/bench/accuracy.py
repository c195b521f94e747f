"""AP, FP and FN of the very artefact that is timed, on the very backend: deploy.gate's exam, sat by each form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from segdec_edge.bench.forms import TORCH, Form, Peer, reference_key
from segdec_edge.bench.record import Accuracy
from segdec_edge.bundle import read_bundle
from segdec_edge.data.spec import open_dataset
from segdec_edge.deploy.gate import Exam, Marks, compare, exam_for, sit
from segdec_edge.errors import SegdecError
from segdec_edge.evaluation.run import choose_samples
from segdec_edge.types import ModelSpec, Pixels, Prediction

_STRANGER = "trained with another split: the pictures that the others are held to may have been trained on"


@dataclass(frozen=True)
class Exams:
    """exam: None without --data; strangers: forms whose own split has other pictures in that subset, by key."""

    exam: Exam | None = None
    strangers: frozenset[str] = field(default_factory=frozenset)

    def pictures(self, count: int) -> list[Pixels]:
        """The first so many, as they lie on disk. Raises PictureError."""
        return [sample.read() for sample in self.exam.samples[:count]] if self.exam else []

    def marks(self, forms: Sequence[Form], done: Callable[[], None]) -> Mapping[str, Accuracy]:
        """How each form did, by key; empty without an exam."""
        if self.exam is None:
            return {}
        found: dict[str, Marks | str] = {}
        for form in forms:
            found[form.key] = _STRANGER if form.key in self.strangers else _marks(form, self.exam)
            done()
        reference = reference_key(forms)
        return {key: _told(marks, found[reference], reference, key) for key, marks in found.items()}


def _marks(form: Form, exam: Exam) -> Marks | str:
    """Or why there are none."""
    try:
        with closing(form.open(None)) as peer:
            return sit(_Candidate(peer, form.spec, form.backend), exam)
    except SegdecError as error:
        return form.told(str(error))


def _told(marks: Marks | str, over: Marks | str, reference: str, key: str) -> Accuracy:
    if isinstance(marks, str):
        return Accuracy(unknown=marks)
    told = marks.accuracy
    plain = Accuracy(ap=told.ap, fp=told.fp, fn=told.fn, pictures=told.pictures, threshold=told.threshold)
    if isinstance(over, str) or key == reference:
        return plain
    found = compare(over, marks)
    return plain.model_copy(
        update={"over": reference, "verdicts_changed": len(found.flips), "scores_apart": found.score_rms}
    )


def exams_for(data: str | None, subset: str, forms: Sequence[Form]) -> Exams:
    """The exam of the first form, which all sit; a peer from elsewhere sits it too. Raises DataError, BundleError."""
    own = [form for form in forms if form.source is not None]
    if data is None or not own:
        return Exams()
    known: dict[Path, Exam] = {}
    for form in own:
        if form.source is not None and form.source.path not in known:
            known[form.source.path] = _exam(form.source.path, form.backend, data, subset)
    named = {form.key: _names(known[form.source.path]) for form in own if form.source is not None}
    first = named[own[0].key]
    return Exams(next(iter(known.values())), frozenset(key for key, names in named.items() if names != first))


def _exam(path: Path, backend: str, data: str, subset: str) -> Exam:
    if backend != TORCH:
        return exam_for(read_bundle(path), data, subset)
    from segdec_edge.model.checkpoint import load_checkpoint

    dataset, facts = open_dataset(data), load_checkpoint(path).facts
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
