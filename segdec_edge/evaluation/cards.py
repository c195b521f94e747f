"""The report's cards: one part each, its two pictures and what was decided. Knows no figure of the whole set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from segdec_edge.data.samples import Dataset, Sample
from segdec_edge.evaluation.evaluate import Evaluation, Outcome, outcome_of, score_of
from segdec_edge.evaluation.panels import make_panels
from segdec_edge.evaluation.scoring import ScoredSample

PICTURES_BYTES = 2_800_000
"""All JPEGs of a page together, before base64 adds a third: with 5000 table rows the page stays below 5 MB."""
_LARGEST_JPEG, _SMALLEST_JPEG = 24_000, 5_000
MOST_PARTS = PICTURES_BYTES // (2 * _SMALLEST_JPEG)
"""So many parts are shown with pictures; those beyond are listed by name."""
_DISPLAY_SIDE = 300
_WIDE = 1.8  # a picture so much wider than tall has its own row, under its twin
_CLASSES = {Outcome.MISSED: "missed", Outcome.REJECTED_GOOD: "rejected"}
_LEGEND = (
    'Left (or above) as taken, right (or below) with the heat map <span class="key heat"></span> from 0 to 1;'
    ' <span class="key outline"></span> annotated defect.'
)


def shown_parts(evaluation: Evaluation) -> tuple[str, ...]:
    """Names of the parts that get a card, wrong decisions before borderline ones where there are too many."""
    room = MOST_PARTS - len(evaluation.borderline)
    return (evaluation.missed + evaluation.rejected_good)[:room] + evaluation.borderline


def make_cards(evaluation: Evaluation, scored: Sequence[ScoredSample], dataset: Dataset) -> dict[str, str]:
    """name → card with pictures, for each of shown_parts."""
    names = shown_parts(evaluation)
    limit = min(_LARGEST_JPEG, PICTURES_BYTES // (2 * max(1, len(names))))
    by_name = {one.name: one for one in scored}
    return {
        sample.name: _card(sample, by_name[sample.name], evaluation.given.threshold, limit)
        for sample in dataset.named(names)
    }


def _card(sample: Sample, one: ScoredSample, threshold: float, limit_bytes: int) -> str:
    outcome = outcome_of(one, threshold)
    panels, name = make_panels(sample, one, limit_bytes), escape(one.name)
    pair, wide, note = "<p>The picture cannot be read any more.</p>", False, ""
    if panels is not None:
        height, width = panels.size_hw
        wide, note = width > _WIDE * height, panels.note
        scale = 1.0 if wide else max(1.0, _DISPLAY_SIDE / max(height, width))
        size = f'width="{round(width * scale)}" height="{round(height * scale)}"'
        alt = f"{name} under its heat map" + (", annotated defect outlined" if panels.outlined else "")
        pair = (
            f'<div class="pair"><img src="{panels.picture_uri}" {size} alt="{name} as taken">'
            f'<img src="{panels.overlay_uri}" {size} alt="{alt}"></div>'
        )
    classes = f"card {_CLASSES.get(outcome, '')} {'wide' if wide else ''}".strip()
    words = f"{outcome.value}: score {score_of(one):.6g}, threshold {threshold:.6g}"
    caption = f"<figcaption><b>{name}</b><br>{words}{'; ' if note else ''}{note}</figcaption>"
    return f'<figure class="{classes}">{pair}{caption}</figure>'


def section(title: str, intro: str, names: Sequence[str], cards: Mapping[str, str], none: str) -> str:
    """One group of parts under its title; names without a card are listed; `none` is said where no name is."""
    if not names:
        return f"<section><h2>{title}</h2><p>{none}</p></section>"
    shown, rest = [n for n in names if n in cards], [n for n in names if n not in cards]
    more = (
        f"<details><summary>{len(rest)} more, without pictures to keep this file small</summary>"
        f"<p>{', '.join(map(escape, rest))}</p></details>"
    )
    return (
        f'<section><h2>{title}: {len(names)}</h2><p class="sub">{intro} {_LEGEND}</p>'
        f'<div class="cards">{"".join(cards[name] for name in shown)}</div>{more if rest else ""}</section>'
    )


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
