"""The page of segdec optimize: every candidate on an accuracy-against-latency plot and in a table; no script in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from segdec_edge import __version__
from segdec_edge.deploy.optimize import Candidate, Optimized, OptimizeJob

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 760, 380, 70, 50


def optimize_page(job: OptimizeJob, found: Optimized) -> str:
    """The whole page as HTML text."""
    winner = found.winner
    ms, backend = winner.fastest
    first_ms = found.candidates[0].fastest[0]
    headline = (
        f"{found.times_faster:.1f} times faster: {first_ms:.1f} → {ms:.1f} ms a picture"
        if winner.name != "original"
        else "Nothing faster keeps its accuracy: the bundle stays as it is"
    )
    chosen = f"{winner.name} on {backend}, from {job.bundle.name}. {_target(job, ms)}"
    body = [
        f"<h1>{escape(headline)}</h1>",
        f"<p>{escape(chosen)}</p>",
        _plot(found.candidates, job.max_ap_drop),
        _table(found),
        _refusals(found.candidates),
        f'<p class="sub">{escape(_how(job, found))}</p>',
    ]
    page = Path(__file__).with_name("optimize.html").read_text(encoding="utf-8")
    return Template(page).substitute(body="\n".join(body))


def _how(job: OptimizeJob, found: Optimized) -> str:
    return (
        f"Accuracy on {len(found.exam.samples)} {found.exam.subset} pictures of {found.exam.data}; a candidate passes"
        f" (filled dot) with at most {job.max_ap_drop:g} points of AP and of recall at the shipped threshold less than"
        " the original (dashed line). What was chosen within a candidate (constants, ranks, layers) was chosen on other"
        " pictures; which candidate was taken was judged on these, which flatters it a little. Time: host time of one"
        " inference, batch 1, median over rounds in which all candidates took turns on this machine."
        f" segdec-edge {__version__}."
    )


def _target(job: OptimizeJob, ms: float) -> str:
    if job.target_ms is None:
        return ""
    reached = "reached" if ms <= job.target_ms else "not reached: nothing here is faster at this accuracy"
    return f"Target {job.target_ms:g} ms {reached}."


def _plot(candidates: Sequence[Candidate], max_ap_drop: float) -> str:
    shown = [one for one in candidates if one.latency and one.ap is not None]
    if not shown:
        return ""
    times = [math.log10(one.fastest[0]) for one in shown]
    aps = [one.ap or 0.0 for one in shown]
    low, high = min(times) - 0.15, max(times) + 0.15
    limit = aps[0] - max_ap_drop / 100
    bottom = min(*aps, limit) - 0.002
    top = min(1.0, max(aps)) + 0.002

    def x(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - 110)

    def y(value: float) -> float:
        return 20 + (top - value) / (top - bottom) * (_HEIGHT - 20 - _BOTTOM)

    ticks = [value for power in range(-1, 5) for value in (10**power, 2 * 10**power, 5 * 10**power)]
    grid = "".join(
        f'<line class="grid" x1="{x(math.log10(t)):.1f}" y1="20" x2="{x(math.log10(t)):.1f}" y2="{_HEIGHT - _BOTTOM}"/>'
        f'<text x="{x(math.log10(t)):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{t:g}</text>'
        for t in ticks
        if low <= math.log10(t) <= high
    )
    levels = "".join(
        f'<line class="grid" x1="{_LEFT}" y1="{y(v):.1f}" x2="{_WIDTH - 110}" y2="{y(v):.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.3f}</text>'
        for v in (bottom + (top - bottom) * step / 4 for step in range(5))
        if v <= 1.0
    )
    edge = f'<line class="limit" x1="{_LEFT}" y1="{y(limit):.1f}" x2="{_WIDTH - 110}" y2="{y(limit):.1f}"/>'
    dots = "".join(
        f'<g class="{"passes" if one.passes else "fails"}"><circle cx="{x(t):.1f}" cy="{y(ap):.1f}" r="6"/>'
        f'<text x="{x(t) + 10:.1f}" y="{y(ap) + 4:.1f}">{escape(one.name)}</text></g>'
        for one, t, ap in zip(shown, times, aps, strict=True)
    )
    axes = (
        f'<text x="{(_LEFT + _WIDTH - 110) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">ms a picture (log scale)</text>'
        f'<text transform="translate(14 {_HEIGHT / 2}) rotate(-90)" text-anchor="middle">average precision</text>'
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Average precision over latency">'
        f"{grid}{levels}{edge}{dots}{axes}</svg>"
    )


def _table(found: Optimized) -> str:
    names = sorted({name for one in found.candidates for name in one.latency})
    head = "".join(f"<th>{escape(name)}, ms</th>" for name in names)
    rows = []
    for one in found.candidates:
        if one.refused:
            continue
        css = f"{'passes' if one.passes else 'fails'}{' winner' if one == found.winner else ''}"
        times = "".join(
            f"<td>{one.latency[name].median_ms:.1f}</td>" if name in one.latency else "<td>–</td>" for name in names
        )
        ap = "none" if one.ap is None else f"{one.ap:.4f}"
        verdict = one.lost or ("chosen" if one == found.winner else "passes")
        rows.append(
            f'<tr class="{css}"><td>{escape(one.name)}</td><td>{escape(one.precision)}</td>'
            f"<td>{one.size_bytes / 1e6:.1f}</td><td>{ap}</td><td>{one.fp}</td><td>{one.fn}</td><td>{one.flips}</td>"
            f"{times}<td>{escape(verdict)}</td></tr>"
        )
    return (
        "<table><thead><tr><th>candidate</th><th>precision</th><th>MB</th><th>AP</th><th>FP</th><th>FN</th>"
        f"<th>verdicts changed</th>{head}<th></th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _refusals(candidates: Sequence[Candidate]) -> str:
    lines = [f"<li>{escape(one.name)}: {escape(one.refused)}</li>" for one in candidates if one.refused]
    return f"<h2>Not made</h2><ul>{''.join(lines)}</ul>" if lines else ""
