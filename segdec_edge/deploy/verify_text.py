"""A verification as lines for a terminal or a log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from segdec_edge.deploy.apart import Compared
from segdec_edge.deploy.verify import Report

_HEAD = ("", "score max", "mean", "logit max", "heat map max", "mean", "verdicts", "")
_SHOWN = 3


def in_words(report: Report) -> str:
    """Each form beside the reference, then the layers of those that were compared layer by layer."""
    lines = [f"{len(report.pictures)} pictures, reference: {report.reference}", *_table(report.compared)]
    if not report.compared:
        lines.append("nothing to compare it with: give --against CHECKPOINT_OR_BUNDLE")
    for one in report.compared:
        lines += _details(one)
    lines += [f"not asked: {name}: {reason}" for name, reason in report.skipped.items()]
    lines += [f"careful: {remark}" for remark in report.remarks]
    return "\n".join(line.rstrip() for line in lines)


def _table(compared: Sequence[Compared]) -> list[str]:
    rows = [_HEAD, *(_row(one) for one in compared)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(_HEAD))]
    return [
        "  ".join(text.ljust(width) if index in (0, 7) else text.rjust(width)
                  for index, (text, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows[: len(rows) if compared else 0]
    ]  # fmt: skip


def _row(one: Compared) -> tuple[str, ...]:
    figures = (one.score_max, one.score_mean, one.logit_max, one.heatmap_max, one.heatmap_mean)
    state = "too far" if one.exceeded else "ok"
    return (one.name, *(f"{figure:.1e}" for figure in figures), str(len(one.flips)), state)


def _details(one: Compared) -> Iterator[str]:
    if one.flips:
        yield f"{one.name}: other verdicts: {_some(one.flips)}"
    for words in one.exceeded:
        yield f"{one.name}: {words} ({one.limits.why})"
    if not one.layers:
        return
    width = max(len(layer.name) for layer in one.layers)
    yield ""
    yield f"{one.name}, layer by layer:"
    for layer in one.layers:
        if layer.relative is None:
            yield f"  {layer.name.ljust(width)}  of another shape"
            continue
        mark = "  ← the first past the limit" if layer.name == one.first else ""
        yield f"  {layer.name.ljust(width)}  {layer.relative:8.1e} relative, {layer.largest:8.1e} at most{mark}"
    yield f"  {_verdict(one)}"


def _verdict(one: Compared) -> str:
    if one.first is not None:
        return f"first layer that differs: {one.first} (limit {one.limits.layer:g} relative)"
    if one.exceeded:
        return (
            f"no layer alone is past its limit of {one.limits.layer:g}: the difference grows from layer to layer, or"
            " comes from a fused kernel, which asking for the layers takes apart"
        )
    return f"no layer is past its limit of {one.limits.layer:g}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
