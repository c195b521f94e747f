"""Which layers suffer from INT8, and the mixed precision that keeps accuracy. Made in one folder, resumable.

Every evaluation (one layer alone, or a combination) is written to sensitivity.json as soon as it is there; the same
command goes on behind the last one. Choices are made on validation pictures, or training ones where the split has no
validation with both kinds; never on those of the test, which deploy.gate scores once, afterwards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segdec_edge.bundle import Bundle
from segdec_edge.data.samples import Dataset, Sample
from segdec_edge.data.splits import Split
from segdec_edge.deploy.calibration import CalibrationSet
from segdec_edge.deploy.choose import fewest_left_out
from segdec_edge.deploy.qdq import Layer
from segdec_edge.deploy.quantize import Int8, Int8Graphs, int8_graphs
from segdec_edge.deploy.shift import Shift, score_graph, shift_of, telling
from segdec_edge.errors import QuantizeError
from segdec_edge.evaluation.scoring import ScoredSample
from segdec_edge.files import make_folder, write_atomic

RESULTS = "sensitivity.json"
MOST_PARTS = 200
_FORMAT = 1
Progress = Callable[[int, int, str], None]
"""Called with (evaluations done, evaluations expected, what was just found)."""


@dataclass(frozen=True)
class Asked:
    """max_ap_drop in points: 0.1 is 0.001 of AP, and of recall. parts: at most so many decide (the most telling ones).

    backend: a name, or auto for the fastest one here.
    """

    options: Int8
    max_ap_drop: float = 0.1
    parts: int = MOST_PARTS
    backend: str = "auto"


@dataclass(frozen=True)
class Sensitivity:
    """What was found. alone: each layer in INT8, the others in FP32; left_out: None where no choice keeps accuracy.

    everywhere: all layers INT8; mixed: the chosen ones, on all pictures of the subset.
    """

    subset: str
    parts: int
    original: Shift
    alone: tuple[tuple[Layer, Shift], ...]
    everywhere: Shift
    left_out: tuple[str, ...] | None
    mixed: Shift | None
    max_ap_drop: float

    @property
    def most_sensitive_first(self) -> tuple[tuple[Layer, Shift], ...]:
        return _most_damaging_first(self.alone, self.original, self.max_ap_drop)


def selection(dataset: Dataset, bundle: Bundle) -> tuple[str, tuple[Sample, ...]]:
    """The pictures that choices are made on: validation, else training. Raises QuantizeError without a split."""
    stored = bundle.split()
    if stored is None:
        raise QuantizeError(
            f"{bundle.path}: does not say how its data was split, so no picture may choose layers. Export a checkpoint"
            " of segdec train."
        )
    split = Split.from_json(stored)
    for subset in ("validation", "train"):
        samples = dataset.named(split.subset(subset))
        if len({sample.positive for sample in samples}) == 2:
            return subset, samples
    raise QuantizeError(f"{dataset.spec}: neither validation nor training has both good and defective parts.")


def measure_sensitivity(
    bundle: Bundle,
    dataset: Dataset,
    calibration: CalibrationSet,
    folder: Path,
    asked: Asked,
    *,
    recalibrate: bool = False,
    progress: Progress | None = None,
) -> tuple[Sensitivity, Int8Graphs]:
    """Score every layer alone in INT8, choose the fewest to leave out, confirm the choice on the whole subset.

    Goes on with what `folder` holds of the same bundle, pictures and settings; what it holds of others is measured
    anew. Raises QuantizeError, CalibrationError, BackendError, DataError, StorageError.
    """
    make_folder(folder)
    graphs = int8_graphs(bundle, calibration, asked.options, recalibrate=recalibrate)
    subset, samples = selection(dataset, bundle)
    book = _Book(folder / RESULTS, _key(bundle, calibration, asked, samples))
    judge = _Judge(bundle, graphs, samples, asked, book, progress)
    alone = tuple((layer, judge.alone(layer)) for layer in graphs.layers)
    everywhere = judge.without(frozenset())
    order = [layer.name for layer, _ in _most_damaging_first(alone, judge.original, asked.max_ap_drop)]
    left = fewest_left_out(order, judge.passes)
    left, mixed = _confirmed(left, order, judge)
    names = None if left is None else tuple(layer.name for layer in graphs.layers if layer.name in left)
    found = Sensitivity(subset, len(judge.parts), judge.original, alone, everywhere, names, mixed, asked.max_ap_drop)
    return found, graphs


class _Book:
    """Evaluations by name, on disk after each."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self.values: dict[str, Any] = {}
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["format"] == _FORMAT and stored["key"] == key:
                self.values = dict(stored["evaluations"])
        except (OSError, ValueError, KeyError, TypeError):
            self.values = {}  # nothing there, or an unreadable file: measured anew

    def shift(self, name: str, measure: Callable[[], Shift]) -> Shift:
        if name not in self.values:
            self.values[name] = measure().to_json()
            record = {"format": _FORMAT, "key": self.key, "evaluations": self.values}
            write_atomic(self.path, json.dumps(record, indent=1))
        return Shift.from_json(self.values[name])


class _Judge:
    """Scores variants of one graph on the telling parts, or on all of them, against the original."""

    def __init__(
        self,
        bundle: Bundle,
        graphs: Int8Graphs,
        samples: Sequence[Sample],
        asked: Asked,
        book: _Book,
        progress: Progress | None,
    ) -> None:
        self.bundle, self.graphs, self.asked, self.book = bundle, graphs, asked, book
        self.samples, self.progress = samples, progress
        self.before = self._score(bundle.model_path.read_bytes(), samples)
        names = set(telling(self.before, asked.parts))
        self.parts = tuple(sample for sample in samples if sample.name in names)
        self.original = self._shift(self.before, [one.name for one in self.parts])
        self.whole = self._shift(self.before, [one.name for one in samples])
        self.told: set[str] = set()

    def alone(self, layer: Layer) -> Shift:
        return self._told(f"alone {layer.name}", lambda: self.graphs.variant((layer,), rest="fp32"), self.parts)

    def without(self, left: frozenset[str]) -> Shift:
        return self._told(_title("INT8", left), lambda: self._variant(left), self.parts)

    def passes(self, left: frozenset[str]) -> bool:
        return self.without(left).keeps(self.original, self.asked.max_ap_drop)

    def confirm(self, left: frozenset[str]) -> tuple[bool, Shift]:
        if len(self.parts) == len(self.samples):
            return self.passes(left), self.without(left)
        shift = self._told(_title("confirm", left), lambda: self._variant(left), self.samples)
        return shift.keeps(self.whole, self.asked.max_ap_drop), shift

    def _variant(self, left: frozenset[str]) -> bytes:
        return self.graphs.variant([layer for layer in self.graphs.layers if layer.name not in left])

    def _told(self, name: str, graph: Callable[[], bytes], samples: Sequence[Sample]) -> Shift:
        names = [sample.name for sample in samples]
        shift = self.book.shift(name, lambda: self._shift(self._score(graph(), samples), names))
        if self.progress is not None and name not in self.told:
            self.told.add(name)
            # The layers alone, INT8 everywhere, its confirmation, and about six steps of choosing.
            expected = max(len(self.graphs.layers) + 8, len(self.told))
            text = f"{name}: mean |Δ logit| {shift.mean_logit:.3f}, {shift.flips} flips"
            self.progress(len(self.told), expected, text)
        return shift

    def _score(self, content: bytes, samples: Sequence[Sample]) -> tuple[ScoredSample, ...]:
        return score_graph(content, self.bundle.spec, self.asked.backend, samples)

    def _shift(self, scored: Iterable[ScoredSample], names: Sequence[str]) -> Shift:
        wanted = set(names)
        old = [one for one in self.before if one.name in wanted]
        return shift_of([one for one in scored if one.name in wanted], old, self.bundle.spec.threshold)


def _confirmed(
    left: frozenset[str] | None, order: Sequence[str], judge: _Judge
) -> tuple[frozenset[str] | None, Shift | None]:
    """The choice on all parts of the subset; one more sensitive layer is left out as long as it fails there."""
    while left is not None and len(left) < len(order):
        good, shift = judge.confirm(left)
        if good:
            return left, shift
        left |= {next(name for name in order if name not in left)}
    return None, None


def _most_damaging_first(
    alone: Sequence[tuple[Layer, Shift]], original: Shift, max_drop: float
) -> tuple[tuple[Layer, Shift], ...]:
    """By lost AP or recall where that alone is past the limit, then by the scores' shift: below it AP is chance."""

    def damage(pair: tuple[Layer, Shift]) -> tuple[float, float]:
        shift = pair[1]
        lost = max((original.ap or 0.0) - (shift.ap or 0.0), (original.recall or 0.0) - (shift.recall or 0.0))
        return 0.0 if shift.keeps(original, max_drop) else lost, shift.mean_logit

    return tuple(sorted(alone, key=damage, reverse=True))


def _title(word: str, left: frozenset[str]) -> str:
    return f"{word} without {', '.join(sorted(left))}" if left else f"{word} everywhere"


def _key(bundle: Bundle, calibration: CalibrationSet, asked: Asked, samples: Sequence[Sample]) -> str:
    """What the evaluations hold for: another weight, picture or setting gives another key. The limit is none of it."""
    facts = {
        "model": bundle.spec.sha256,
        "threshold": bundle.spec.threshold,
        "calibration": calibration.sha256,
        "options": asdict(asked.options),
        "parts": asked.parts,
        "backend": asked.backend,
        "samples": [sample.name for sample in samples],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
