"""segdec optimize: fold, compress and quantize for people who do not want to know; the fastest that keeps its accuracy.

Every candidate is a bundle of its own in the work folder, beside what it scored on the held-out pictures. An
interrupted run takes up what it left there. Nothing outside that folder is written until the winner is known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from segdec_edge.bundle import Bundle, read_bundle, write_bundle
from segdec_edge.deploy.compress_run import SHARES, CompressJob, Search, compress_bundle
from segdec_edge.deploy.distil import DEFAULT, Recipe, StepProgress
from segdec_edge.deploy.fold_run import FoldJob, fold_bundle
from segdec_edge.deploy.gate import (
    MAX_AP_DROP,
    Comparison,
    Exam,
    Marks,
    compare,
    dataset_of,
    exam_for,
    marks_of,
    require_elsewhere,
    require_exam,
    shortfall,
)
from segdec_edge.deploy.graph_read import read_network
from segdec_edge.deploy.latency import Latency, latencies
from segdec_edge.deploy.network import Norm
from segdec_edge.deploy.quantize import require_fp32
from segdec_edge.deploy.quantize_run import Job, quantize_bundle
from segdec_edge.errors import (
    BackendError,
    BundleError,
    DataError,
    GateError,
    PictureError,
    QuantizeError,
    TrainingError,
)
from segdec_edge.files import make_folder, write_atomic
from segdec_edge.pictures import prepare
from segdec_edge.runtime import backend_classes, open_backend
from segdec_edge.types import Backend, ModelSpec, Pixels

Say = Callable[[str], None]
STATE = "state.json"
_FORMAT = 1
_ANY_LOSS = 100.0
_PICTURES = 8


@dataclass(frozen=True)
class OptimizeJob:
    """What the user asked for. work: the folder of the candidates; max_ap_drop in points; target_ms: a picture on this
    machine, None for as fast as can be; backend: auto for every one that loads here."""

    bundle: Path
    out: Path
    work: Path
    data: str | None = None
    max_ap_drop: float = MAX_AP_DROP
    target_ms: float | None = None
    backend: str = "auto"
    subset: str = "test"
    recipe: Recipe = DEFAULT


@dataclass(frozen=True)
class Candidate:
    """One bundle in the work folder, or why there is none.

    lost: what it falls short of in words, empty where it passes; refused: why it could not be made, empty where it was;
    judge: the runtime that scored it.
    """

    name: str
    bundle: Path
    sha256: str = ""
    precision: str = ""
    size_bytes: int = 0
    ap: float | None = None
    fp: int = 0
    fn: int = 0
    flips: int = 0
    lost: str = ""
    refused: str = ""
    judge: str = ""
    latency: Mapping[str, Latency] = field(default_factory=dict)

    @property
    def passes(self) -> bool:
        return not self.lost and not self.refused

    @property
    def fastest(self) -> tuple[float, str]:
        """Its median in ms on the runtime that scored it, for no other one's accuracy is known; and that runtime.

        The shortest one where no time was taken there, as of an engine.
        """
        if self.judge in self.latency:
            return self.latency[self.judge].median_ms, self.judge
        return min((one.median_ms, name) for name, one in self.latency.items())


@dataclass(frozen=True)
class Optimized:
    """All candidates, the original first, and the winner: the original where nothing is better."""

    candidates: tuple[Candidate, ...]
    winner: Candidate
    exam: Exam

    @property
    def times_faster(self) -> float:
        return self.candidates[0].fastest[0] / self.winner.fastest[0]


def optimize_bundle(job: OptimizeJob, say: Say, progress: StepProgress | None = None) -> Optimized:
    """Make the candidates, measure them in turns, and write the fastest that passes to job.out.

    Raises BundleError, QuantizeError, DataError, BackendError, StorageError.
    """
    require_elsewhere(job.out, job.bundle)
    _require_apart(job)
    original = read_bundle(job.bundle)
    require_fp32(original)
    exam = exam_for(original, job.data, job.subset, job.backend)
    require_exam(exam)
    make_folder(job.work)
    found = _Road(job, original, exam, say, progress).walk()
    say("timing the candidates in turns")
    timed = _timed(job, [one for one in found if not one.refused], exam)
    candidates = tuple(timed.get(one.name, one) for one in found)
    winner = min((one for one in candidates if one.passes and one.latency), key=lambda one: one.fastest)
    chosen = read_bundle(winner.bundle)
    write_bundle(job.out, onnx_bytes=chosen.model_path.read_bytes(), meta=chosen.meta, split=chosen.split())
    return Optimized(candidates, winner, exam)


def _require_apart(job: OptimizeJob) -> None:
    """Candidates and state must lie neither in a bundle nor where the result goes."""
    work, out, given = job.work.resolve(), job.out.resolve(), job.bundle.resolve()
    if given in (work, *work.parents):
        raise BundleError(
            f"{job.work}: is the bundle that was given, or in it; it is never changed. Choose another --work."
        )
    if work in (out, *out.parents) or out in work.parents:
        raise BundleError(f"{job.out}: shares its folder with the candidates in {job.work}. Choose another --out.")


class _Road:
    """Makes one candidate after another, each judged on the exam against the original."""

    def __init__(self, job: OptimizeJob, original: Bundle, exam: Exam, say: Say, progress: StepProgress | None) -> None:
        self._job, self._original, self._exam, self._say, self._progress = job, original, exam, say, progress
        self._state = _State.of(job, original, exam)
        self._before: dict[str, Marks] = {}
        self._search: Search | None = None
        trunk = read_network(original.model_path.read_bytes()).trunk
        self._base = "folded" if any(isinstance(layer, Norm) for layer in trunk) else "original"

    def walk(self) -> list[Candidate]:
        found = [self._made("original", self._as_it_is)]
        if self._base == "folded":
            found.append(self._made("folded", self._fold))
        if not found[-1].refused:
            found.extend(self._squeezed())
        best = next(one.name for one in reversed(found) if one.passes)  # at the worst the original, with its norms
        found.append(self._made(f"{best}-int8", partial(self._quantize, best, mixed=False)))
        if not found[-1].passes:
            found.append(self._made(f"{best}-mixed", partial(self._quantize, best, mixed=True)))
        return found

    def _squeezed(self) -> list[Candidate]:
        """The smallest share that the search finds; where the held-out pictures refuse it, larger ones in turn."""
        found = [self._made("compressed", partial(self._compress, share=None))]
        if found[0].refused:
            return found
        larger = [share for share in reversed(SHARES) if share > _share_of(found[0].bundle)]
        for share in larger:
            if found[-1].passes:
                break
            found.append(self._made(f"compressed-{share:g}", partial(self._compress, share=share)))
        return found

    def _made(self, name: str, make: Callable[[Path], Comparison]) -> Candidate:
        """A candidate as an earlier run left it, or made now."""
        path = self._path(name)
        known = self._state.of_name(name)
        if known is not None and (known.get("refused") or _is_still(path, known)):
            self._say(f"{name}: known from an earlier run" + (f": {known['refused']}" if known.get("refused") else ""))
            return Candidate(name, path, **known)
        self._say(f"{name}:")
        try:
            comparison = make(path)
        except (GateError, QuantizeError, BackendError, TrainingError) as error:
            if name == "original":
                raise
            summary: dict[str, Any] = {"refused": str(error)}
            self._say(str(error))
            if isinstance(error, BackendError):  # another installation may load it: not kept for a later run
                return Candidate(name, path, **summary)
        else:
            summary = _summary(read_bundle(path), comparison, self._job.max_ap_drop)
            if name == "original":
                summary |= {"lost": "", "judge": ""}  # what it gives is what is wanted, on any runtime
            self._say(f"{name}: {comparison.in_words()}{': ' + summary['lost'] if summary['lost'] else ''}")
        self._state.note(name, summary)
        return Candidate(name, path, **summary)

    def _path(self, name: str) -> Path:
        return self._job.bundle if name == "original" else self._job.work / f"{name}.bundle"

    def _as_it_is(self, path: Path) -> Comparison:
        return compare(self._marks(), self._marks())

    def _fold(self, path: Path) -> Comparison:
        job = FoldJob(
            self._job.bundle, path, self._job.data, subset=self._job.subset, max_ap_drop=_ANY_LOSS,
            backend=self._job.backend, work=self._job.work / "parts",
        )  # fmt: skip
        return fold_bundle(job, self._say, self._progress, other_light=False, before=self._marks()).comparison

    def _compress(self, path: Path, share: float | None) -> Comparison:
        asked, work = self._job, self._job.work
        job = CompressJob(
            bundle=self._path(self._base),
            out=path,
            teacher=None if self._base == "original" else asked.bundle,
            data=asked.data,
            share=share,
            recipe=asked.recipe,
            subset=asked.subset,
            max_ap_drop=asked.max_ap_drop,
            backend=asked.backend,
            work=work / "parts",
            gate_drop=_ANY_LOSS,
        )
        if self._search is None:
            self._search = Search.prepare(job, self._say, self._progress)
        return self._against_original(compress_bundle(job, self._say, self._progress, self._search).comparison)

    def _quantize(self, source: str, path: Path, mixed: bool) -> Comparison:
        asked = self._job
        job = Job(
            bundle=self._path(source),
            out=path,
            manifest=asked.work / f"calibration-{self._state.digest}.toml",
            data=asked.data or dataset_of(self._original, None).spec,
            mixed=mixed,
            max_ap_drop=asked.max_ap_drop if mixed else _ANY_LOSS,
            backend=asked.backend,
            subset=asked.subset,
        )
        return self._against_original(quantize_bundle(job, say=self._say).found)

    def _against_original(self, found: Comparison) -> Comparison:
        return compare(self._marks(found.after.accuracy.backend), found.after)

    def _marks(self, backend: str | None = None) -> Marks:
        """The original's, on the backend that judged a candidate: an engine beside it may be what `auto` takes."""
        name = backend or self._exam.backend
        if name not in self._before:
            self._say(f"scoring {len(self._exam.samples)} {self._exam.subset} pictures with the bundle as it is")
            marks = marks_of(self._original, replace(self._exam, backend=name))
            self._before |= {name: marks, marks.accuracy.backend: marks}
        return self._before[name]


class _State:
    """What an earlier run measured, in the work folder; forgotten where it was about another bundle or other wishes."""

    def __init__(self, path: Path, key: Mapping[str, Any]) -> None:
        self._path, self._key = path, json.loads(json.dumps(key))
        self.digest = hashlib.sha256(json.dumps(self._key, sort_keys=True).encode()).hexdigest()[:12]
        self._known: dict[str, dict[str, Any]] = {}
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["format"] == _FORMAT and stored["key"] == self._key:
                self._known = dict(stored["known"])
        except (OSError, ValueError, KeyError, TypeError):  # nothing there, or not readable: all is made anew
            return

    @staticmethod
    def of(job: OptimizeJob, original: Bundle, exam: Exam) -> _State:
        spec = original.spec
        key = {"sha256": spec.sha256, "threshold": spec.threshold, "data": exam.data, "subset": job.subset}
        key |= {"pictures": [sample.name for sample in exam.samples]}
        wishes = {"max_ap_drop": job.max_ap_drop, "recipe": asdict(job.recipe), "backend": job.backend}
        return _State(job.work / STATE, {**key, **wishes})

    def of_name(self, name: str) -> dict[str, Any] | None:
        return self._known.get(name)

    def note(self, name: str, summary: dict[str, Any]) -> None:
        self._known[name] = summary
        write_atomic(self._path, json.dumps({"format": _FORMAT, "key": self._key, "known": self._known}, indent=1))


def _summary(bundle: Bundle, found: Comparison, max_ap_drop: float) -> dict[str, Any]:
    after, model = found.after.accuracy, bundle.meta.model
    return {
        "sha256": model.sha256,
        "precision": model.precision,
        "size_bytes": model.size_bytes,
        "ap": after.ap,
        "fp": after.fp,
        "fn": after.fn,
        "judge": after.backend,
        "flips": len(found.flips),
        "lost": shortfall(found, max_ap_drop),
    }


def _is_still(path: Path, known: Mapping[str, Any]) -> bool:
    """Whether a candidate lies in the work folder as it was judged."""
    try:
        return read_bundle(path).spec.sha256 == known.get("sha256")
    except BundleError:
        return False


def _share_of(path: Path) -> float:
    """The share of the operations that a compressed bundle was made for."""
    curve = (read_bundle(path).meta.lineage[-1].model_extra or {})["curve"]
    return max((one for one in curve if one["passed"]), key=lambda one: -one["share"])["share"]  # type: ignore[no-any-return]


def _timed(job: OptimizeJob, made: list[Candidate], exam: Exam) -> dict[str, Candidate]:
    """Each candidate with its latency on each backend asked for, all of them measured in turns."""
    names = list(backend_classes()) if job.backend == "auto" else [job.backend]
    pictures = _readable(exam, read_bundle(job.bundle).spec)
    with ExitStack() as opened:
        backends: dict[tuple[str, str], Backend] = {}
        for one in made:
            for name in names:
                with suppress(BackendError):  # a precision that this runtime does not compute in
                    backend = open_backend(one.bundle, name)
                    backends[one.name, name] = opened.enter_context(closing(backend))
        taken = latencies(backends, pictures)
    return {
        one.name: replace(one, latency={name: taken[one.name, name] for name in names if (one.name, name) in taken})
        for one in made
    }


def _readable(exam: Exam, spec: ModelSpec) -> list[Pixels]:
    found: list[Pixels] = []
    for sample in exam.samples:
        with suppress(PictureError):
            found.append(prepare(sample.read(), spec.size_hw, spec.channels))
        if len(found) == _PICTURES:
            break
    if not found:
        raise DataError(f"{exam.data}: none of its {exam.subset} pictures can be read. Check the data set.")
    return found
