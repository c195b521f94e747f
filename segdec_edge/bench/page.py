"""The page of segdec bench: a sortable table, every call as a density, accuracy over latency, the roofline.

One file: its style and its few lines of script are in it, and a policy lets nothing else run or load.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from segdec_edge.bench.plots import accuracy_svg, roofline_svg, violins_svg
from segdec_edge.bench.record import BenchRecord, Conditions, Line
from segdec_edge.bench.text import FIRST, FLOORS_ELSEWHERE, SECOND, Column, columns_of, elsewhere, notes, refusals
from segdec_edge.deploy.gate import MAX_AP_DROP

SORT = """
const sort = (head) => {
  const table = head.closest("table"), body = table.tBodies[0], place = head.cellIndex;
  const up = head.getAttribute("aria-sort") !== "ascending";
  const key = (row) => row.cells[place].dataset.value;
  const less = (a, b) => a === "" ? (b === "" ? 0 : 1) : b === "" ? -1 :
    (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b) * (up ? 1 : -1);
  table.querySelectorAll("th").forEach((one) => one.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  [...body.rows].sort((a, b) => less(key(a), key(b))).forEach((row) => body.append(row));
};
document.querySelectorAll("th").forEach((head) => {
  head.addEventListener("click", () => sort(head));
  head.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(head); }
  });
});
"""


def bench_page(record: BenchRecord) -> str:
    """The whole page as HTML text."""
    numbered = list(enumerate(record.lines, start=1))
    body = [
        f"<h1>{escape(_headline(record.lines))}</h1>",
        *(f'<p class="doubt">{escape(flag)}</p>' for flag in record.flags),
        _table(record.lines, FIRST),
        _section("Every call", violins_svg(numbered)),
        _section("Accuracy against latency", accuracy_svg(numbered)),
        "<h2>Stages, costs and floor</h2>",
        _table(record.lines, SECOND),
        _section("Roofline", roofline_svg(record, numbered)),
        *_elsewhere(record.lines),
        _listed("Not run", refusals(record.not_run)),
        _listed("How to read it", notes(record)),
        _listed("The machine meanwhile", [*_state("before", record.before), *_state("after", record.after)]),
    ]
    digest = b64encode(hashlib.sha256(SORT.encode()).digest()).decode()
    page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return Template(page).substitute(body="\n".join(part for part in body if part), script=SORT, digest=digest)


def _headline(lines: Sequence[Line]) -> str:
    """The fastest that loses no more accuracy than a gate allows; the fastest of all where none was measured."""
    reference = next((line for line in lines if line.ratio is None), lines[0])
    kept = [line for line in lines if _keeps_accuracy(line, reference)]
    best = min(kept or lines, key=lambda line: line.per_picture_ms)
    words = f"{best.name} on {best.backend}: {best.per_picture_ms:.1f} ms a picture"
    if best.ratio is not None and best.ratio.low is not None and best.ratio.low > 1:
        words += f", {best.ratio.times_faster:.1f} times faster than {best.ratio.over}"
    if not kept:
        scored = any(line.accuracy and line.accuracy.ap is not None for line in lines)
        return f"{words}; accuracy {'of the reference unknown' if scored else 'not measured'}"
    return f"{words}; the fastest within {MAX_AP_DROP:g} points of AP of {reference.key}"


def _keeps_accuracy(line: Line, reference: Line) -> bool:
    aps = [one.accuracy.ap if one.accuracy else None for one in (reference, line)]
    return aps[0] is not None and aps[1] is not None and 100 * (aps[0] - aps[1]) <= MAX_AP_DROP + 1e-9


def _elsewhere(lines: Sequence[Line]) -> list[str]:
    told, columns = elsewhere(lines)
    if not told:
        return []
    return ["<h2>On boards that are not here</h2>", f"<p>{escape(FLOORS_ELSEWHERE)}</p>", _table(told, columns)]


def _table(lines: Sequence[Line], wanted: Sequence[Column]) -> str:
    columns = columns_of(lines, wanted)
    head = "".join(f'<th scope="col" tabindex="0">{escape(column.title)}</th>' for column in columns)
    rows = []
    for number, line in enumerate(lines, start=1):
        cells = "".join(
            f'<td data-value="{escape(_value(column, line))}">{escape(column.cell(line))}</td>' for column in columns
        )
        doubt = f' title="{escape("; ".join(line.flags))}" class="doubted"' if line.flags else ""
        rows.append(f'<tr{doubt}><td data-value="{number}">{number}</td>{cells}</tr>')
    return (
        f'<div class="wide"><table><thead><tr><th scope="col" tabindex="0">row</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _value(column: Column, line: Line) -> str:
    value = column.value(line)
    return "" if value is None else str(value)


def _section(title: str, plot: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{plot}</section>" if plot else ""


def _listed(title: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<h2>{escape(title)}</h2><ul>{items}</ul>" if items else ""


def _state(when: str, found: Conditions) -> list[str]:
    """Only what this machine tells."""
    told = {
        "load": found.load and " ".join(f"{one:.1f}" for one in found.load),
        "governor": found.governor,
        "clocks, MHz": found.clocks_mhz
        and " to ".join(f"{one:.0f}" for one in (found.clocks_mhz[0], found.clocks_mhz[2])),
        "power mode": found.power_mode,
        "°C": found.temperature_c and f"{found.temperature_c:.0f}",
        "GPU": found.gpu and ", ".join(f"{name} {value}" for name, value in found.gpu.items()),
    }
    known = ", ".join(f"{name} {value}" for name, value in told.items() if value)
    unknown = ", ".join(name for name, value in told.items() if not value)
    return [
        f"{when} ({found.when:%Y-%m-%d %H:%M} UTC): {known or 'nothing told'}. Not told here: {unknown or 'nothing'}."
    ]
