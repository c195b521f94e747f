"""Two plots as inline SVG text, coloured by the page's style sheet so that dark mode and print need no second copy.

Knows no file and no page; all text in it is figures or fixed words, so nothing needs escaping.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from segdec_edge.decision import Rule, is_defect
from segdec_edge.evaluation.metrics import confusion, precision_recall
from segdec_edge.evaluation.thresholds import logit

BINS = 44
_TICK_SCORES = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
_TICK_COUNTS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)
_WIDTH, _LEFT, _RIGHT = 520, 52, 12


def precision_recall_svg(labels: Sequence[bool], scores: Sequence[float], marks: Sequence[tuple[str, float]]) -> str:
    """The step-wise curve, its area the average precision. marks: (CSS class, threshold) of each operating point.

    Raises DataError where only one class is present.
    """
    top, bottom = 14, 300
    recall, precision = precision_recall(labels, scores)

    def point(r: float, p: float) -> str:
        return f"{_across(r):.1f},{bottom - p * (bottom - top):.1f}"

    steps = [step for r0, r1, p in zip(recall, recall[1:], precision[1:], strict=False) for step in ((r0, p), (r1, p))]
    path = "L".join(dict.fromkeys(point(r, p) for r, p in steps))
    grid = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = _across(tick), bottom - tick * (bottom - top)
        grid.append(_line(_LEFT, y, _WIDTH - _RIGHT, y) + _text(_LEFT - 7, y + 4, f"{tick:g}", "end"))
        grid.append(_line(x, top, x, bottom) + _text(x, bottom + 17, f"{tick:g}", "middle"))
    dots = []
    for css, threshold in marks:
        counts = confusion(labels, scores, threshold)
        flagged = counts.tp + counts.fp
        cx, cy = point(counts.tpr or 0.0, counts.tp / flagged if flagged else 1.0).split(",")
        dots.append(f'<circle class="{css}" cx="{cx}" cy="{cy}" r="{6 if css == "given" else 9}"/>')
    return _svg(
        bottom + 44,
        "Precision over recall, step-wise",
        "".join(grid)
        + f'<path class="area" d="M{_LEFT},{bottom}L{path}L{_across(1):.1f},{bottom}Z"/>'
        + f'<path class="curve" d="M{path}"/>'
        + "".join(dots)
        + _text((_LEFT + _WIDTH - _RIGHT) / 2, bottom + 37, "recall: share of defective parts caught", "middle")
        + f'<text transform="translate(13 {(top + bottom) / 2}) rotate(-90)" text-anchor="middle">precision</text>',
    )


def histogram_svg(labels: Sequence[bool], scores: Sequence[float], threshold: float) -> str:
    """Counts (log scale) over the score (logit scale), good parts above, defective ones below, the threshold between.

    Bars on the wrong side of the threshold have the class "wrong". labels and scores may be of one class, not empty.
    """
    edge = logit(threshold)
    low, high = _range([logit(score) for score in scores], edge)
    bins = {kind: _bins(labels, scores, kind, threshold, (high - low) / BINS) for kind in (False, True)}
    most = max(count for found in bins.values() for count in found.values())
    x_edge = _across((edge - low) / (high - low))
    parts = []
    for kind, base in ((False, 158), (True, 306)):
        height = 116
        parts.append(_count_axis(base, height, most))
        for k, count in bins[kind].items():
            x = _across((edge + k * (high - low) / BINS - low) / (high - low))
            tall = height * _log(count) / _log(most)
            css = "wrong" if (k >= 0) != kind else "defect" if kind else "good"
            parts.append(
                f'<rect class="{css}" x="{x + 0.6:.1f}" y="{base - tall:.1f}"'
                f' width="{_span() / BINS - 1.2:.1f}" height="{tall:.1f}"/>'
            )
        total = sum(bins[kind].values())
        title = f"{'Defective' if kind else 'Good'} parts: {total}"
        parts.append(_text(_LEFT, base - height - 7, title, "start", "strong"))
    parts.append(f'<line class="threshold" x1="{x_edge:.1f}" y1="18" x2="{x_edge:.1f}" y2="306"/>')
    parts.append(_text(x_edge, 12, f"threshold {threshold:.4g}", _anchor(x_edge), "strong"))
    parts.append(_score_axis(306, low, high))
    return _svg(352, f"Score histogram of good and defective parts, threshold {threshold:.4g}", "".join(parts))


def _bins(labels: Sequence[bool], scores: Sequence[float], kind: bool, threshold: float, width: float) -> Counter[int]:
    """Parts of one kind per bin; bin 0 starts at the threshold, so no bar lies on both sides of it."""
    rule, edge = Rule(threshold), logit(threshold)
    found: Counter[int] = Counter()
    for positive, score in zip(labels, scores, strict=True):
        if positive == kind:
            k = math.floor((logit(score) - edge) / width)
            found[max(k, 0) if is_defect(score, rule) else min(k, -1)] += 1
    return found


def _range(logits: Iterable[float], edge: float) -> tuple[float, float]:
    values = [*logits, edge]
    pad = max(0.04 * (max(values) - min(values)), 0.5)
    return min(values) - pad, max(values) + pad


def _count_axis(base: float, height: float, most: int) -> str:
    ticks = [count for count in _TICK_COUNTS if count <= most and (most < 300 or count in _TICK_COUNTS[::2])]
    lines = [_line(_LEFT, base, _WIDTH - _RIGHT, base, "axis")]
    for count in ticks:
        y = base - height * _log(count) / _log(most)
        lines.append(_line(_LEFT, y, _WIDTH - _RIGHT, y) + _text(_LEFT - 7, y + 4, str(count), "end"))
    return "".join(lines)


def _score_axis(base: float, low: float, high: float) -> str:
    out, last = [], -math.inf
    for score in _TICK_SCORES:
        x = _across((logit(score) - low) / (high - low))
        if low <= logit(score) <= high and x - last >= 52:
            out.append(_line(x, base, x, base + 5, "axis") + _text(x, base + 19, f"{score:g}", "middle"))
            last = x
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return "".join(out) + _text(middle, base + 39, "score (logit scale); counts on a log scale", "middle")


def _svg(height: int, name: str, body: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{name}">{body}</svg>'


def _span() -> float:
    return _WIDTH - _RIGHT - _LEFT


def _across(share: float) -> float:
    return _LEFT + share * _span()


def _anchor(x: float) -> str:
    return "start" if x < _LEFT + 70 else "end" if x > _WIDTH - _RIGHT - 70 else "middle"


def _log(count: int) -> float:
    return math.log1p(count)


def _line(x1: float, y1: float, x2: float, y2: float, css: str = "grid") -> str:
    return f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, words: str, anchor: str, css: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{f" class={css!r}" if css else ""}>{words}</text>'
