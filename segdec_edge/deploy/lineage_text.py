"""BundleFacts as lines for a terminal or a log. Knows nothing that they do not say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from segdec_edge.deploy.lineage import BundleFacts, Json, LineageStep, PlanState, value_at

_HASH = 12
_COLUMNS = ("step", "when", "model", "AP", "FP", "FN", "pictures", "subset", "backend", "threshold")
_RIGHT = frozenset({"AP", "FP", "FN", "pictures", "threshold"})


def in_words(facts: BundleFacts) -> str:
    """Everything about a bundle; the lineage as a table, one line a measurement, its note and tries below each step."""
    lines = [facts.path.resolve().name]
    if facts.damage:
        lines.append(f"damaged: {facts.damage}")
    lines += [f"{key:<10} {line}" for key, line in _rows(facts)]
    lines += ["", "lineage", *(f"  {line}" for line in _lineage_table(facts.lineage))]
    if facts.plans:
        lines += ["", "engines", *(f"  {line}" for plan in facts.plans for line in _plan_lines(plan))]
    return "\n".join(line.rstrip() for line in lines)


def _rows(facts: BundleFacts) -> Iterator[tuple[str, str]]:
    meta = facts.meta
    yield "model", _model(meta)
    yield "input", _input(meta)
    yield from _threshold(meta)
    yield from _training(facts)
    parity = value_at(meta, "parity")
    if parity is not None:
        yield "parity", _parity(parity)
    yield "profile", _profile(value_at(meta, "profile"))
    yield "reference", facts.reference
    yield "made", f"{_known(meta, 'created')} by segdec-edge {_known(meta, 'segdec_edge')}"
    versions = value_at(meta, "versions")
    if isinstance(versions, dict) and versions:
        yield "with", ", ".join(f"{name} {version}" for name, version in versions.items())


def _model(meta: Json) -> str:
    model = value_at(meta, "model")
    size = value_at(model, "size_bytes")
    words = [
        _known(model, "precision"),
        f"opset {_known(model, 'opset')}",
        f"{size / 1e6:.1f} MB" if isinstance(size, int) else "size unknown",
        f"sha256 {str(_known(model, 'sha256'))[:_HASH]}",
    ]
    if value_at(model, "simplified") is False:
        words.append("not simplified" + (f" ({model['note']})" if value_at(model, "note") else ""))
    return ", ".join(str(word) for word in words)


def _input(meta: Json) -> str:
    found = value_at(meta, "input")
    words = f"{_size(value_at(found, 'size_hw'))} (height x width), {_known(found, 'colour')}, uint8"
    heatmap = f"heat map {_size(value_at(meta, 'outputs', 'heatmap_hw'))}"
    sources = value_at(found, "source_hw")
    if isinstance(sources, list) and len(sources) == 2:
        smallest, largest = (_size(one) for one in sources)
        trained = f"of {smallest}" if smallest == largest else f"from {smallest} to {largest}"
        return f"{words}; {heatmap}; trained on pictures {trained}"
    return f"{words}; {heatmap}"


def _threshold(meta: Json) -> Iterator[tuple[str, str]]:
    found = value_at(meta, "threshold")
    yield "threshold", f"{_number(value_at(found, 'value'))}: {_known(found, 'source')}"
    log = value_at(found, "log")
    for change in log if isinstance(log, list) else []:
        old, new = (_number(value_at(change, key)) for key in ("old", "new"))
        yield "", f"{_known(change, 'when')}: {old} → {new}: {_known(change, 'why')}"


def _training(facts: BundleFacts) -> Iterator[tuple[str, str]]:
    training = value_at(facts.meta, "training")
    network, settings = value_at(training, "network"), value_at(training, "settings")
    words = [f"{name} {value}" for name, value in network.items()] if isinstance(network, dict) else []
    for key in ("epochs", "preset", "fold", "seed"):
        if value_at(settings, key) is not None:
            words.append(f"{key} {settings[key]}")
    yield "trained", f"on {_known(settings, 'data')}" + (f": {', '.join(words)}" if words else "")
    if facts.split:
        counts = [f"{facts.split[name]} {name}" for name in ("train", "validation", "test") if name in facts.split]
        yield "split", f"{facts.split['how']}: {', '.join(counts)}"


def _parity(parity: Any) -> str:
    score, heatmap, limit = (
        _number(value_at(parity, key), ".1e") for key in ("max_abs_score", "max_abs_heatmap", "limit")
    )
    return f"at most {score} from torch in score, {heatmap} in heat map (limit {limit})"


def _profile(found: Any) -> str:
    if not isinstance(found, dict):
        return "none: no station watches for drift (segdec profile adds it)"
    light = value_at(found, "brightness")
    counts = value_at(light, "counts")
    pictures = sum(one for one in counts if isinstance(one, int)) if isinstance(counts, list) else "unknown"
    level, spread = (_number(value_at(light, key)) for key in ("mean", "deviation"))
    model = str(_known(found, "model_sha256"))[:_HASH]
    return f"{pictures} {_known(found, 'subset')} pictures, brightness {level} ± {spread}, model {model}"


def _lineage_table(steps: Sequence[LineageStep]) -> list[str]:
    if not steps:
        return ["not recorded"]
    rows: list[tuple[str, ...]] = []
    notes: list[tuple[str, ...]] = []
    for step in steps:
        for index, record in enumerate(step.accuracy or ({},)):
            head = (step.step, step.when[:16].replace("T", " "), step.sha256[:_HASH]) if index == 0 else ("", "", "")
            rows.append((*head, *_measured(record)))
            notes.append(())
        notes[-1] = (*([step.note] if step.note else []), *_tried(step))
    return _aligned(_COLUMNS, rows, notes)


def _tried(step: LineageStep) -> Iterator[str]:
    if step.curve:
        yield f"shares of the operations tried, on {step.chosen_on or 'unknown'} pictures:"
    for one in step.curve:
        found, count = value_at(one, "shift"), value_at(one, "operations")
        gflop = count / 1e9 if isinstance(count, int) else None
        ap, logits = _number(value_at(found, "ap"), ".4f"), _number(value_at(found, "mean_logit"), ".2f")
        yield (
            f"  {_number(value_at(one, 'share'), '.1%')}: {_number(gflop, '.1f')} GFLOP, AP {ap},"
            f" FP {_known(found, 'fp')}, FN {_known(found, 'fn')}, logits {logits} apart:"
            f" {'kept' if value_at(one, 'passed') else 'too far'}"
        )


def _measured(record: Json) -> tuple[str, ...]:
    if not record:
        return ("not measured", "", "", "", "", "", "")
    ap = value_at(record, "ap")
    figures = [str(_known(record, key)) for key in ("fp", "fn", "pictures", "subset", "backend")]
    return (_number(ap, ".4f") if ap is not None else "unknown", *figures, _number(value_at(record, "threshold")))


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        cells = (
            text.rjust(width) if name in _RIGHT else text.ljust(width)
            for name, text, width in zip(columns, row, widths, strict=True)
        )
        return "  ".join(cells).rstrip()

    lines = [line(columns)]
    for row, note in zip(rows, notes, strict=True):
        lines.append(line(row))
        lines += [f"    {one}" for one in note]
    return lines


def _plan_lines(plan: PlanState) -> list[str]:
    if plan.facts is None:
        return [f"{plan.name}: {plan.fault}"]
    facts = plan.facts
    size = value_at(facts, "plan_bytes")
    batches = value_at(facts, "batches")
    words = [
        f"{_known(facts, 'precision')} for {_known(facts, 'target')}",
        f"{size / 1e6:.1f} MB" if isinstance(size, int) else "size unknown",
        f"{_known(facts, 'runtime')} {_known(facts, 'runtime_version')}",
        str(value_at(facts, "gpu") or "no GPU at hand"),
    ]
    if isinstance(batches, list):
        words.append(f"batch {', '.join(str(one) for one in batches)}")
    belongs = plan.fault or f"fits this model.onnx; {plan.here}"
    return [f"{plan.name}: {', '.join(words)}", f"    {belongs}"]


def _known(values: Any, key: str) -> Any:
    found = value_at(values, key)
    return "unknown" if found is None or found == "" else found


def _number(value: Any, form: str = ".4g") -> str:
    return format(value, form) if isinstance(value, (int, float)) else "unknown"


def _size(value: Any) -> str:
    return "x".join(str(side) for side in value) if isinstance(value, list) and value else "unknown"
