"""A table of the paper in Markdown, ours beside it. Works nothing out."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from segdec_edge.reproduce.notes import MARK
from segdec_edge.reproduce.paper import Reported, Table
from segdec_edge.reproduce.results import Result
from segdec_edge.reproduce.summary import Cell


def to_markdown(
    table: Table,
    cells: Sequence[Cell],
    results: Sequence[Result] = (),
    notes: Sequence[str] = (),
    marked: Collection[str] = (),
) -> str:
    """A table for people: the paper's figure, then each variant's; an incomplete cell says what is missing.

    results: told one by one where a cell is of several. marked: rows whose figure of the paper is not of the same
    pictures, as a note says.
    """
    variants = list(dict.fromkeys(cell.variant for cell in cells))
    head = ["", "paper AP", "paper FP+FN"]
    for variant in variants:
        head += [f"{variant} AP", "FP+FN, best F", f"FP+FN, threshold of {_sources(cells, variant)} pictures"]
    lines = [f"Table {table.key}: {table.title}", "", _line(head), _line(["---"] * len(head))]
    for row in table.rows:
        mine = {cell.variant: cell for cell in cells if cell.row == row.key}
        if mine:
            columns = [text for variant in variants for text in _columns(mine.get(variant), table)]
            lines.append(_line([row.title, *_paper(row.paper, MARK if row.key in marked else ""), *columns]))
    lines += _rates_lines(table, cells) if table.key == "I" else []
    lines += _each_lines(table, cells, results)
    return "\n".join([*lines, *(line for note in notes for line in ("", note))]) + "\n"


def _each_lines(table: Table, cells: Sequence[Cell], results: Sequence[Result]) -> list[str]:
    """Every fold and seed by itself, where a figure above is of more than one, or waits for more."""
    order = [(cell.row, cell.variant) for cell in cells]
    places = [order.index((one["row"], one["variant"])) for one in results]
    waiting = any(cells[place].average_precision is None for place in places)
    if len({*places}) == len(places) and not waiting:
        return []
    head = ["each training", table.unit, "seed", "AP", "FP+FN, best F", "FP+FN, threshold picked before"]
    titles = {row.key: row.title for row in table.rows}
    lines = ["", _line(head), _line(["---"] * len(head))]
    for _, one in sorted(zip(places, results, strict=True), key=lambda pair: pair[0]):
        counts = [one["evaluation"][point]["confusion"] for point in ("best_f", "given")]
        lines.append(
            _line(
                [
                    f"{titles[one['row']]}, {one['variant']}",
                    "" if one["fold"] is None else str(one["fold"]),
                    str(one["seed"]),
                    percent(100 * one["evaluation"]["average_precision"]),
                    *(f"{count['fp']}+{count['fn']}" for count in counts),
                ]
            )
        )
    return lines


def percent(value: float) -> str:
    """To two decimals; to as many more as it takes not to say 100 of anything below."""
    return next(
        (text for text in (f"{value:.{digits}f}" for digits in range(2, 7)) if float(text) < 100), f"{value:.2f}"
    )


def _sources(cells: Sequence[Cell], variant: str) -> str:
    found = sorted({source for cell in cells if cell.variant == variant for source in cell.threshold_from})
    return " or ".join(found) or "training"


def _rates_lines(table: Table, cells: Sequence[Cell]) -> list[str]:
    """Table I as the paper prints it: 100 % of both rates on every class; ours at the best F-measure."""
    head = ["class", "paper TPR", "paper TNR"] + [f"{cell.variant} {rate}" for cell in cells for rate in ("TPR", "TNR")]
    lines = ["", _line(head), _line(["---"] * len(head))]
    for fold in table.folds if table.unit == "class" else (0,):
        paper = [str(fold), "100", "100"] if table.unit == "class" else ["", "", ""]
        ours = [_rate(cell.rates.get(str(fold)), index) for cell in cells for index in (0, 1)]
        lines.append(_line([*paper, *ours]))
    return lines


def _rate(rates: tuple[float, float] | None, index: int) -> str:
    return "" if rates is None else f"{rates[index]:.2f}"


def _columns(cell: Cell | None, table: Table) -> tuple[str, str, str]:
    if cell is None:
        return ("", "", "")
    if cell.average_precision is None:
        return (f"not finished: seed {', '.join(map(str, cell.incomplete))}", "", "")
    spread = f" ± {cell.spread:.2f}" if cell.spread is not None else ""
    notes = [f"{len(cell.seeds)} seeds"] if len(cell.seeds) > 1 else []
    if cell.folds < len(table.folds):
        notes.append(f"{cell.folds} of {len(table.folds)} {'classes' if table.unit == 'class' else 'folds'}")
    if cell.incomplete:
        notes.append(f"without seed {', '.join(map(str, cell.incomplete))}: not finished")
    note = f" ({'; '.join(notes)})" if notes else ""
    return (f"{percent(cell.average_precision)}{spread}{note}", _sum(cell.best_f), _sum(cell.given))


def _sum(errors: tuple[float, float] | None) -> str:
    return "" if errors is None else f"{round(errors[0], 1):g}+{round(errors[1], 1):g}"


def _paper(reported: Reported | None, mark: str) -> tuple[str, str]:
    if reported is None or reported.average_precision is None:
        return ("", "")
    return (f"{reported.average_precision:g}{mark}", reported.errors)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
