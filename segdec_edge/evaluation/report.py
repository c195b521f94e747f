"""One self-contained HTML page about one scored set, missed defects first.

Knows no metric (evaluate.py counts) and no clock (the date is one of the facts it is given). No script, nothing loaded
from elsewhere: the page can be mailed, archived and printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from segdec_edge.data.samples import Dataset
from segdec_edge.evaluation.cards import make_cards, plural, section
from segdec_edge.evaluation.charts import histogram_svg, precision_recall_svg
from segdec_edge.evaluation.evaluate import Evaluation, OperatingPoint, Outcome, outcome_of, score_of
from segdec_edge.evaluation.metrics import rate_upper_bound
from segdec_edge.evaluation.scoring import ScoredSample
from segdec_edge.files import write_atomic
from segdec_edge.types import Label


def write_report(
    path: Path,
    evaluation: Evaluation,
    scored: Sequence[ScoredSample],
    dataset: Dataset,
    facts: Mapping[str, str],
    warning: str = "",
) -> None:
    """Write the page, whole or not at all.

    scored: what evaluation was made from; dataset holds at least these samples, for pictures and masks.
    facts are printed at the foot in their order, after the data set and the threshold; a warning stands at the top.
    Raises DataError where the dataset lacks a shown part, StorageError.
    """
    write_atomic(path, report_html(evaluation, scored, dataset, facts, warning))


def report_html(
    evaluation: Evaluation,
    scored: Sequence[ScoredSample],
    dataset: Dataset,
    facts: Mapping[str, str],
    warning: str = "",
) -> str:
    """The page as text. Every name, error and fact in it is escaped."""
    template = Template(resources.files("segdec_edge.evaluation").joinpath("report.html").read_text("utf-8"))
    cards = make_cards(evaluation, scored, dataset)
    headline = _headline(evaluation.given)
    counts = evaluation.given.confusion
    no_miss = "No defective part was missed." if counts.positives else "This set holds no defective part."
    no_reject = "No good part was rejected by its score." if counts.negatives else "This set holds no good part."
    far, near = "Furthest from the threshold first.", "Rightly decided, but nearest to the threshold."
    return template.substitute(
        title=escape(f"{headline} · {dataset.spec}"),
        mood="bad" if counts.fn else "fine" if counts.positives else "warn",
        headline=escape(headline),
        subline=escape(_subline(evaluation)),
        setline=f"Data set {escape(dataset.spec)}: {evaluation.count} parts evaluated.",
        warning=f'<p class="caution">{escape(warning)}</p>' if warning else "",
        tiles=_tiles(evaluation),
        figures=_figures(evaluation),
        plots=_plots(evaluation, scored),
        wrong=section("Missed defects", far, evaluation.missed, cards, no_miss)
        + section("Good parts rejected", far, evaluation.rejected_good, cards, no_reject),
        unscored=_unscored(evaluation),
        borderline=section("Closest calls", near, evaluation.borderline, cards, "No part was decided rightly."),
        scores=_all_scores(scored, evaluation.given.threshold),
        facts=_facts(evaluation, dataset, facts),
    )


def _headline(point: OperatingPoint) -> str:
    counts = point.confusion
    if not counts.positives:
        return "No defective part in this set: missed defects were not measured"
    missed = f"{counts.fn} of {counts.positives}" if counts.fn else f"None of {counts.positives}"
    return f"{missed} defective parts missed"


def _subline(evaluation: Evaluation) -> str:
    counts, given = evaluation.given.confusion, evaluation.given
    rejected = (
        f"{counts.fp or 'none'} of {counts.negatives} good parts rejected" if counts.negatives else "no good part"
    )
    unread = len(evaluation.unscored)
    tail = f" {plural(unread, 'part')} had no usable score and counted as rejected." if unread else ""
    return f"At threshold {given.threshold:.6g} ({given.source}): {rejected}.{tail}"


def _tiles(evaluation: Evaluation) -> str:
    counts = evaluation.given.confusion
    tiles = [
        _tile(_of(counts.fn, counts.positives, "/"), "missed defects (false negatives)", "bad" if counts.fn else ""),
        _tile(
            f"{counts.fp} / {counts.negatives}", "good parts rejected (false positives)", "warn" if counts.fp else ""
        ),
        _tile(_figure(evaluation.average_precision), "average precision, step-wise", ""),
        _tile(str(len(evaluation.unscored)), "parts without a usable score", "warn" if evaluation.unscored else ""),
    ]
    return f'<div class="tiles">{"".join(tiles)}</div>{_confidence(evaluation)}'


def _tile(figure: str, words: str, mood: str) -> str:
    return f'<div class="tile"><b class="{mood}">{figure}</b><span>{words}</span></div>'


def _confidence(evaluation: Evaluation) -> str:
    """What so few parts can prove: the bound that somebody who answers for missed parts must see beside a zero."""
    counts = evaluation.given.confusion
    bounds = [
        f"at most {100 * rate_upper_bound(errors, count):.2g} % of all {kind}"
        for errors, count, kind in (
            (counts.fn, counts.positives, "defective parts are missed"),
            (counts.fp, counts.negatives, "good parts are rejected"),
        )
        if count
    ]
    return (
        f"<p>What this set can prove, with 95 % confidence each: {' and '.join(bounds)}."
        ' <span class="sub">This holds only where the line’s parts are like these, and these took no part in'
        " training or in picking the threshold.</span></p>"
    )


def _figures(evaluation: Evaluation) -> str:
    points = [point for point in (evaluation.given, evaluation.best_f) if point is not None]
    heads = ("At the given threshold", "At the best threshold of this set")
    unread_good = sum(not one.positive for one in evaluation.unscored)
    rows = [
        ("Missed defects (FN)", [_of(p.confusion.fn, p.confusion.positives) for p in points]),
        ("Good parts rejected (FP)", [_of(p.confusion.fp, p.confusion.negatives) for p in points]),
        *([("of which without a score", [str(unread_good)] * len(points))] if unread_good else []),
        ("Defects caught (TPR)", [_percent(p.confusion.tpr) for p in points]),
        ("Good parts passed (TNR)", [_percent(p.confusion.tnr) for p in points]),
        ("Threshold", [f"{p.threshold:.6g}" for p in points]),
        ("Picked by", [escape(p.source) for p in points]),
        (
            "What it is good for",
            ["a line, if it was picked on other parts", "comparison with publications only"][: len(points)],
        ),
    ]
    head = "".join(f'<th scope="col">{name}</th>' for name in heads[: len(points)])
    return (
        f'<table class="figures"><thead><tr><td></td>{head}</tr></thead><tbody>{_rows(rows)}</tbody></table>'
        f"{_areas(evaluation)}"
    )


def _areas(evaluation: Evaluation) -> str:
    if evaluation.average_precision is None:
        return (
            "<p>Average precision, ROC AUC and a best threshold are not defined here: the scored parts are all of one"
            " kind. Evaluate on a set with good and defective parts.</p>"
        )
    rows = [
        ("Average precision, step-wise", [_figure(evaluation.average_precision)]),
        ("Average precision, trapezoid (as the method’s authors)", [_figure(evaluation.average_precision_trapezoid)]),
        ("ROC AUC", [_figure(evaluation.roc_auc)]),
    ]
    note = f" Computed without the {plural(len(evaluation.unscored), 'part')} that had no score."
    return (
        f'<h2>Figures without a threshold</h2><table class="areas"><tbody>{_rows(rows)}</tbody></table>'
        f"{f'<p>{note}</p>' if evaluation.unscored else ''}"
    )


def _plots(evaluation: Evaluation, scored: Sequence[ScoredSample]) -> str:
    known = [one for one in scored if one.score is not None]
    if not known:
        return "<p>No part has a score: nothing to plot.</p>"
    labels, scores = [one.positive for one in known], [score_of(one) for one in known]
    histogram = (
        f"<figure>{histogram_svg(labels, scores, evaluation.given.threshold)}<figcaption>"
        '<span class="key good"></span> good, <span class="key defect"></span> defective,'
        ' <span class="key wrong"></span> on the wrong side of the threshold: a good part above it is rejected,'
        " a defective one below it is missed.</figcaption></figure>"
    )
    if evaluation.best_f is None:
        return f'<div class="plots">{histogram}</div>'
    marks = (("best", evaluation.best_f.threshold), ("given", evaluation.given.threshold))
    return (
        f'<div class="plots">{histogram}<figure>{precision_recall_svg(labels, scores, marks)}<figcaption>'
        '<span class="key given"></span> given threshold, <span class="key best"></span> best threshold of this set.'
        " The shaded area is the step-wise average precision.</figcaption></figure></div>"
    )


def _unscored(evaluation: Evaluation) -> str:
    if not evaluation.unscored:
        return ""
    rows = [(escape(one.name), [_truth(one.positive), escape(one.error)]) for one in evaluation.unscored]
    return (
        f"<section><h2>Without a score, rejected: {len(rows)}</h2>"
        '<table class="unscored"><thead><tr><th scope="col">Part</th><th scope="col">Annotated</th>'
        f'<th scope="col">Why</th></tr></thead><tbody>{_rows(rows)}</tbody></table></section>'
    )


def _all_scores(scored: Sequence[ScoredSample], threshold: float) -> str:
    # Unknown first, then from the most defective down, as somebody reads who looks for the place of the threshold.
    ordered = sorted(scored, key=lambda one: (one.score is not None, -(one.score or 0.0), one.name))
    rows = [
        (
            escape(one.name),
            [
                escape(one.part),
                _truth(one.positive),
                "" if one.score is None else f"{one.score:.6g}",
                _verdict(one, threshold),
            ],
        )
        for one in ordered
    ]
    heads = "".join(f'<th scope="col">{h}</th>' for h in ("Picture", "Part", "Annotated", "Score", "Verdict"))
    return (
        f"<details><summary>{plural(len(rows), 'picture')}, highest score first</summary>"
        f'<table class="all"><thead><tr>{heads}</tr></thead><tbody>{_rows(rows)}</tbody></table></details>'
    )


def _verdict(one: ScoredSample, threshold: float) -> str:
    match outcome_of(one, threshold):
        case Outcome.UNKNOWN:
            return Label.UNKNOWN.value
        case Outcome.MISSED:
            return f'{Label.OK.value} <b class="bad">missed</b>'
        case Outcome.REJECTED_GOOD:
            return f'{Label.DEFECT.value} <b class="warn">wrong</b>'
        case Outcome.CAUGHT:
            return Label.DEFECT.value
        case Outcome.PASSED:
            return Label.OK.value


def _facts(evaluation: Evaluation, dataset: Dataset, facts: Mapping[str, str]) -> str:
    given = evaluation.given
    first = {"Data set": dataset.spec, "Threshold": f"{given.threshold!r}", "Threshold picked by": given.source}
    items = (f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in {**first, **facts}.items())
    return f"<dl>{''.join(items)}</dl>"


def _rows(rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Table rows; all cells are HTML already."""
    return "\n".join(
        f'<tr><th scope="row">{head}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>' for head, cells in rows
    )


def _truth(positive: bool) -> str:
    return "defective" if positive else "good"


def _of(errors: int, count: int, between: str = "of") -> str:
    return f"{errors} {between} {count}" if count else "not measured"


def _figure(value: float | None) -> str:
    """Four digits; a value below 1 never shows as 1."""
    if value is None:
        return "not defined"
    return "&gt; 0.9999" if 0.99995 <= value < 1.0 else f"{value:.4f}"


def _percent(share: float | None) -> str:
    if share is None:
        return "not measured"
    return "&gt; 99.99 %" if 0.99995 <= share < 1.0 else f"{100 * share:.2f} %"
