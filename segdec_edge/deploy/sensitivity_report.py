"""A sensitivity measurement as a Markdown table, JSON and a plot. Knows no graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from segdec_edge.deploy.sensitivity import Sensitivity
from segdec_edge.deploy.shift import Shift
from segdec_edge.files import write_atomic

TABLE, PLOT, CHOICE = "sensitivity.md", "sensitivity.svg", "choice.json"
_HEAD = (
    "| layer in INT8 | share of multiply-adds | AP | recall | FP | FN | verdict flips"
    " | mean, max \\|Δ logit\\| | mean, max \\|Δ heat map\\| |"
)


def write_reports(folder: Path, found: Sensitivity, facts: Mapping[str, str]) -> tuple[Path, Path]:
    """Write sensitivity.md, sensitivity.svg and choice.json; gives the first two. facts: printed below the table.

    Raises StorageError.
    """
    write_atomic(folder / TABLE, table(found, facts))
    write_atomic(folder / PLOT, plot_svg(found))
    record = {
        "subset": found.subset,
        "parts": found.parts,
        "max_ap_drop": found.max_ap_drop,
        "left_out": found.left_out,
        "original": found.original.to_json(),
        "everywhere": found.everywhere.to_json(),
        "mixed": None if found.mixed is None else found.mixed.to_json(),
        "alone": [{**asdict(layer), **shift.to_json()} for layer, shift in found.most_sensitive_first],
        **facts,
    }
    write_atomic(folder / CHOICE, json.dumps(record, indent=1))
    return folder / TABLE, folder / PLOT


def table(found: Sensitivity, facts: Mapping[str, str]) -> str:
    """Markdown: the original, each layer alone (most sensitive first), all together, and the choice."""
    rows = [_row("none (FP32)", None, found.original)]
    rows += [_row(layer.name, layer.macs_share, shift) for layer, shift in found.most_sensitive_first]
    rows.append(_row("all", 1.0, found.everywhere))
    head = [
        f"# INT8 sensitivity on {found.parts} {found.subset} pictures",
        "",
        "Each layer alone in INT8, the others in FP32; AP, FP, FN and flips at the bundle's threshold.",
        "",
        _HEAD,
        "|" + " --- |" * 9,
    ]
    tail = ["", verdict(found), "", *(f"- {key}: {value}" for key, value in facts.items())]
    return "\n".join([*head, *rows, *tail]) + "\n"


def verdict(found: Sensitivity) -> str:
    """One sentence: what to leave out."""
    limit = f"{found.max_ap_drop:g} points of AP and recall"
    if found.left_out is None:
        return f"No choice of layers keeps within {limit}: stay in FP16."
    if not found.left_out:
        return f"All layers INT8 keep within {limit}: nothing has to be left out."
    saved = 100 * sum(layer.macs_share for layer, _ in found.alone if layer.name not in found.left_out)
    return (
        f"Left out of INT8 to keep within {limit}: {', '.join(found.left_out)}; {saved:.1f} % of the multiply-adds"
        " stay INT8."
    )


def plot_svg(found: Sensitivity) -> bytes:
    """Bars of the mean and marks of the largest logit shift, a row a layer in the graph's order."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 1.2 + 0.3 * len(found.alone)), layout="constrained")
    axes = figure.add_subplot()
    left = set(found.left_out or ())
    names = [layer.name for layer, _ in found.alone]
    colours = ["#d1495b" if name in left else "#30638e" for name in names]
    axes.barh(names, [shift.mean_logit for _, shift in found.alone], color=colours)
    axes.plot([shift.max_logit for _, shift in found.alone], names, "|", color="black", markersize=9)
    axes.invert_yaxis()
    axes.set_xlabel("|difference of the score's logit|: bar mean, mark largest")
    subject = "red: left out" if left else "nothing left out"
    axes.set_title(f"Each layer alone in INT8, {found.parts} {found.subset} pictures ({subject})", fontsize=10)
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _row(name: str, share: float | None, shift: Shift) -> str:
    cells = [
        name,
        "" if share is None else f"{100 * share:.2f} %",
        "" if shift.ap is None else f"{shift.ap:.4f}",
        "" if shift.recall is None else f"{shift.recall:.4f}",
        str(shift.fp),
        str(shift.fn),
        str(shift.flips),
        f"{shift.mean_logit:.3f}, {shift.max_logit:.3f}",
        f"{shift.mean_heat:.5f}, {shift.max_heat:.3f}",
    ]
    return "| " + " | ".join(cells) + " |"
