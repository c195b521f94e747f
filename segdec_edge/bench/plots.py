"""Three plots of a record as inline SVG text, coloured by the page's style sheet. Dots bear the row's number.

Knows no file and no page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from segdec_edge.bench.record import BenchRecord, Line
from segdec_edge.bench.stages import INFER
from segdec_edge.bench.text import P99_CALLS
from segdec_edge.timing import Floats

_WIDTH, _LEFT, _RIGHT = 860, 84, 24
_ROW, _ROOM, _NAME, _GRID_STEPS = 34, 200, 380, (1, 2, 5)
_KINDS = ("torch", "onnxruntime", "openvino", "tensorrt")
Numbered = Sequence[tuple[int, Line]]
Scale = Callable[[float], float]
Box = tuple[float, float, float, float]
_SPOTS = ((15, 0), (-15, 0), *((0, side * reach) for reach in range(17, 120, 14) for side in (-1, 1)))
"""Where a number may stand, from its dot."""


def violins_svg(lines: Numbered) -> str:
    """Every sample of infer() on a log scale: a density, the single calls, p50 and p99."""
    samples = {number: np.log10(np.array(line.samples[INFER]).ravel()) for number, line in lines}
    low = min(found.min() for found in samples.values()) - 0.05
    high = max(found.max() for found in samples.values()) + 0.05
    left = 40 + min(_NAME, 7.2 * max(len(f"{number} {line.key}") for number, line in lines))
    bottom = 12 + _ROW * len(lines)
    across = _scale(low, high, left, _WIDTH - _RIGHT)
    rows = [
        _violin(number, line, samples[number], across, 12 + _ROW * place + _ROW / 2, left)
        for place, (number, line) in enumerate(lines)
    ]
    axis = _log_ticks(low, high, across, 8, bottom) + _text(
        (left + _WIDTH) / 2, bottom + 38, f"ms a call (log scale); bar: p50, ring: p99 of {P99_CALLS} calls or more"
    )
    return _svg(bottom + 50, "Latency of every call, one density a row", axis + "".join(rows))


def accuracy_svg(lines: Numbered) -> str:
    """Average precision over latency a picture; empty where fewer than two forms were scored."""
    scored = [
        (number, line, line.accuracy.ap) for number, line in lines if line.accuracy and line.accuracy.ap is not None
    ]
    if len(scored) < 2:
        return ""
    times = [math.log10(line.per_picture_ms) for _, line, _ in scored]
    aps = [ap for _, _, ap in scored]
    low, high, bottom = min(times) - 0.1, max(times) + 0.1, 330
    pad = max(0.002, 0.1 * (max(aps) - min(aps)))
    across = _scale(low, high, _LEFT, _WIDTH - _RIGHT)
    up = _scale(min(aps) - pad, min(1.0, max(aps)) + pad / 2, bottom, 16)
    grid = "".join(
        _line(_LEFT, up(level), _WIDTH - _RIGHT, up(level)) + _text(_LEFT - 8, up(level) + 4, f"{level:.4f}", "end")
        for level in _levels(min(aps) - pad, min(1.0, max(aps) + pad / 2))
    )
    dots = _dots([(number, line, across(t), up(ap)) for (number, line, ap), t in zip(scored, times, strict=True)])
    names = _text((_LEFT + _WIDTH) / 2, bottom + 38, "ms a picture, p50 (log scale)") + _upright(
        bottom, "average precision"
    )
    axes = _log_ticks(low, high, across, 16, bottom) + grid + names
    return _svg(bottom + 50, "Average precision over latency", axes + dots)


def roofline_svg(record: BenchRecord, lines: Numbered) -> str:
    """Operations a second over operations a byte, below the measured peaks; empty where none were measured."""
    shown = [(number, line, line.floor) for number, line in lines if line.floor is not None]
    used = {"fp32", *("int8" if line.precision == "mixed" else line.precision for _, line, _ in shown)}
    roofs = [
        (f"{name} {precision}", peak, ceiling.bytes_per_s)
        for name, ceiling in record.ceilings.items()
        for precision, peak in ceiling.ops_per_s.items()
        if ceiling.bytes_per_s and precision in used
    ]
    if not shown or not roofs:
        return ""
    points = [
        (math.log10(floor.operations / floor.bytes), math.log10(floor.operations / line.latency.p50 * 1e3))
        for _, line, floor in shown
    ]
    knees = [math.log10(peak / moved) for _, peak, moved in roofs]
    low, high, bottom = min(*knees, *(x for x, _ in points)) - 0.4, max(*knees, *(x for x, _ in points)) + 0.3, 400
    across = _scale(low, high, _LEFT, _WIDTH - _ROOM)
    least, top = min(y for _, y in points) - 0.2, max(math.log10(peak) for _, peak, _ in roofs) + 0.15
    up = _scale(least, top, bottom, 16)
    lines_of_roofs = "".join(_roof(*roof, (low, high), least, across, up) for roof in roofs)
    dots = _dots([(number, line, across(x), up(y)) for (number, line, _), (x, y) in zip(shown, points, strict=True)])
    axes = _log_ticks(low, high, across, 16, bottom) + _rates(least, top, up)
    names = _text((_LEFT + _WIDTH) / 2, bottom + 38, "operations a byte, layer by layer through memory (log scale)")
    return _svg(
        bottom + 50,
        "Roofline",
        axes + names + _upright(bottom, "10⁹ operations a second (log)") + lines_of_roofs + dots,
    )


def density(logs: Floats, points: int = 60) -> tuple[Floats, Floats]:
    """Gaussian kernel density on so many places from the least to the largest sample, its width by Silverman's rule."""
    spread = min(float(logs.std()), float(np.subtract(*np.percentile(logs, (75, 25)))) / 1.34) or float(logs.std())
    width = max(0.9 * spread * len(logs) ** -0.2, 0.003)
    places = np.linspace(logs.min(), logs.max(), points)
    return places, np.exp(-0.5 * ((places[:, None] - logs) / width) ** 2).sum(axis=1)


def _violin(number: int, line: Line, logs: Floats, across: Scale, middle: float, left: float) -> str:
    places, heights = density(logs)
    heights = heights / heights.max() * (_ROW / 2 - 3)
    upper = [f"{across(x):.1f},{middle - h:.1f}" for x, h in zip(places, heights, strict=True)]
    lower = [f"{across(x):.1f},{middle + h:.1f}" for x, h in zip(places[::-1], heights[::-1], strict=True)]
    calls = "".join(f'<circle class="call" cx="{across(x):.1f}" cy="{middle:.1f}" r="1"/>' for x in logs)
    p50, p99 = (across(math.log10(value)) for value in (line.latency.p50, line.latency.p99))
    ring = f'<circle class="ring" cx="{p99:.1f}" cy="{middle:.1f}" r="5"/>' if line.latency.count >= P99_CALLS else ""
    return (
        f'<g class="{_kind(line)}">{_text(left - 10, middle + 4, f"{number} {line.key}", "end")}'
        f'<path class="violin" d="M{"L".join([*upper, *lower])}Z"/>{calls}'
        f'<line class="median" x1="{p50:.1f}" y1="{middle - 11:.1f}" x2="{p50:.1f}" y2="{middle + 11:.1f}"/>'
        f"{ring}</g>"
    )


def _roof(
    name: str, peak: float, moved: float, span: tuple[float, float], least: float, across: Scale, up: Scale
) -> str:
    """The slope of memory up to the knee, then level; nothing below `least`."""
    low, high = span
    slope, y1 = math.log10(moved), math.log10(peak)
    start, knee = max(low, least - slope), y1 - slope
    return (
        f'<path class="roof" d="M{across(start):.1f},{up(slope + start):.1f}L{across(knee):.1f},{up(y1):.1f}'
        f'L{across(high):.1f},{up(y1):.1f}"/>'
        f"{_text(across(high) + 4, up(y1) + 4, f'{name}: {peak / 1e9:.0f} G/s', 'start')}"
    )


def _dots(placed: Sequence[tuple[int, Line, float, float]]) -> str:
    """A dot a line, and its number where no other number or dot stands: beside it, else above or below on a thread."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for _, _, x, y in placed]
    circles, labels = [], []
    for number, line, x, y in sorted(placed, key=lambda one: one[2]):
        name = f'<g class="{_kind(line)}"><title>{escape(line.key)}</title>'
        circles.append(f'{name}<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="6"/></g>')
        own = (x - 6, y - 6, x + 6, y + 6)
        spots = [_box(x + dx, y + dy, number) for dx, dy in _SPOTS]
        spot = next((one for one in spots if not any(_meet(one, box) for box in taken if box != own)), spots[-1])
        taken.append(spot)
        middle, foot = (spot[0] + spot[2]) / 2, spot[3] - 2
        if abs(middle - x) < 1:
            labels.append(_line(x, y - 6, x, foot + 2) if foot < y else _line(x, y + 6, x, spot[1]))
        labels.append(_text(middle, foot, str(number)))
    return "".join([*labels, *circles])


def _box(x: float, y: float, number: int) -> Box:
    """Of a number whose middle stands there."""
    half = 4.5 * len(str(number))
    return x - half, y - 7, x + half, y + 7


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _kind(line: Line) -> str:
    found = line.backend.split("/")[0]
    return found if found in _KINDS else "peer"


def _rates(low: float, high: float, up: Scale) -> str:
    return "".join(
        _line(_LEFT, up(math.log10(value)), _WIDTH - _ROOM, up(math.log10(value)))
        + _text(_LEFT - 8, up(math.log10(value)) + 4, f"{value / 1e9:g}", "end")
        for value in _round_values(low, high)
    )


def _log_ticks(low: float, high: float, across: Scale, top: float, bottom: float) -> str:
    return "".join(
        _line(across(math.log10(value)), top, across(math.log10(value)), bottom)
        + _text(across(math.log10(value)), bottom + 17, f"{value:g}")
        for value in _round_values(low, high)
    )


def _round_values(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, 20, … between two logarithms; a finer grid where fewer than two of them lie there."""
    values = [step * 10.0**power for power in range(-4, 17) for step in _GRID_STEPS]
    found = [value for value in values if low <= math.log10(value) <= high]
    return found if len(found) >= 2 else _levels(10**low, 10**high)


def _levels(low: float, high: float) -> list[float]:
    """Round values between the two, at most six, 1, 2 or 5 of some decimal place apart."""
    steps = (step * 10.0**power for power in range(-9, 17) for step in _GRID_STEPS)
    step = next(step for step in steps if high - low <= 5 * step)
    return [step * count for count in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _upright(bottom: float, words: str) -> str:
    return f'<text transform="translate(14 {bottom / 2}) rotate(-90)" text-anchor="middle">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="grid" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _svg(height: float, name: str, body: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(name)}">{body}</svg>'
