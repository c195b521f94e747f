"""The report, read as a browser reads it: parsed, never searched as text."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from segdec_edge.data.samples import Dataset
from segdec_edge.errors import DataError, StorageError
from segdec_edge.evaluation.cards import MOST_PARTS
from segdec_edge.evaluation.charts import histogram_svg
from segdec_edge.evaluation.evaluate import evaluate_scored
from segdec_edge.evaluation.panels import jpeg_uri, outline, shrink
from segdec_edge.evaluation.report import report_html, write_report
from segdec_edge.evaluation.scoring import ScoredSample, score_samples
from tests.evaluation.made_parts import MadePart, brightness_backend

VOID = {"meta", "img", "br", "line", "rect", "circle", "path"}
FACTS = {"Backend": "fake", "Bundle": "sha256 <abc>"}
PARTS = [
    MadePart("good low", False, 0.1),
    MadePart("good wrong", False, 0.9),
    MadePart("bad missed", True, 0.2),
    MadePart("bad high", True, 1.0),
    MadePart("cut good", False, 0.1, broken="picture"),
]


@dataclass
class Node:
    tag: str
    attributes: dict[str, str]
    children: list[Node] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def all(self, tag: str, css: str = "") -> Iterator[Node]:
        for child in self.children:
            if child.tag == tag and (not css or css in child.attributes.get("class", "").split()):
                yield child
            yield from child.all(tag, css)

    def one(self, tag: str, css: str = "") -> Node:
        return next(self.all(tag, css))

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


class Page(HTMLParser):
    """A tree of the page; fails on tags that do not close in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("root", {})
        self.open = [self.root]
        self.feed(html)
        self.close()
        assert self.open == [self.root], f"never closed: {self.open[-1].tag}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {key: value or "" for key, value in attrs})
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Node(tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        closed = self.open.pop()
        assert closed.tag == tag, f"</{tag}> closes <{closed.tag}>"

    def handle_data(self, data: str) -> None:
        for node in self.open:
            node.words.append(data)


def _page(parts: Sequence[MadePart], threshold: float = 0.5, scored: Sequence[ScoredSample] | None = None) -> Node:
    scored = score_samples(brightness_backend(), parts) if scored is None else scored
    evaluation = evaluate_scored(scored, threshold=threshold, threshold_source="training parts")
    return Page(report_html(evaluation, scored, Dataset("made:up", tuple(parts)), FACTS)).root


def _section(page: Node, title: str) -> Node:
    return next(node for node in page.all("section") if node.one("h2").text.startswith(title))


def _table(page: Node, css: str) -> dict[str, list[str]]:
    rows = page.one("table", css).one("tbody").all("tr")
    return {row.one("th").text: [cell.text for cell in row.all("td")] for row in rows}


def test_missed_defects_are_the_headline() -> None:
    page = _page(PARTS)
    assert page.one("h1").text == "1 of 2 defective parts missed"
    assert page.one("h1").attributes["class"] == "bad"
    assert page.one("title").text == "1 of 2 defective parts missed · made:up"
    lead = page.one("p", "lead").text
    assert lead == (
        "At threshold 0.5 (training parts): 2 of 3 good parts rejected."
        " 1 part had no usable score and counted as rejected."
    )
    assert [tile.one("b").text for tile in page.all("div", "tile")] == ["1 / 2", "2 / 3", "0.8333", "1"]


def test_both_thresholds_stand_side_by_side() -> None:
    figures = _table(_page(PARTS), "figures")
    assert figures["Missed defects (FN)"] == ["1 of 2", "0 of 2"]
    assert figures["Good parts rejected (FP)"] == ["2 of 3", "2 of 3"]
    assert figures["of which without a score"] == ["1", "1"]
    assert figures["Defects caught (TPR)"] == ["50.00 %", "100.00 %"]
    assert figures["Picked by"] == ["training parts", "best F-measure of this very set (optimistic)"]
    areas = _table(_page(PARTS), "areas")
    assert areas["Average precision, step-wise"] == ["0.8333"]
    assert areas["ROC AUC"] == ["0.7500"]


def test_wrong_decisions_are_shown_with_two_pictures_each() -> None:
    page = _page(PARTS)
    (missed,) = _section(page, "Missed defects").all("figure", "missed")
    assert missed.one("figcaption").text == "bad missed defective, passed as OK: score 0.2, threshold 0.5"
    alts = [image.attributes["alt"] for image in missed.all("img")]
    assert alts == ["bad missed as taken", "bad missed under its heat map, annotated defect outlined"]
    (rejected,) = _section(page, "Good parts rejected").all("figure", "rejected")
    assert [image.attributes["alt"] for image in rejected.all("img")][1] == "good wrong under its heat map"
    assert [card.one("b").text for card in _section(page, "Closest calls").all("figure")] == ["good low", "bad high"]


def test_pictures_are_whole_jpegs_and_the_overlay_differs() -> None:
    card = _section(_page(PARTS), "Missed defects").one("figure")
    plain, heat = (_decoded(image.attributes["src"]) for image in card.all("img"))
    assert plain.shape == heat.shape == (32, 32, 3)
    assert np.abs(plain[8:].astype(int) - 51).max() < 4  # 0.2 of 255, all grey below the first rows
    assert heat[8:16, 8:20, 0].max() > 100  # cyan


def test_parts_without_a_score_are_listed_with_the_reason() -> None:
    table = _table(_page(PARTS), "unscored")
    assert table == {"cut good": ["good", "cut good: the file ends early"]}


def test_all_scores_are_folded_away_unknown_first_then_falling() -> None:
    details = _page(PARTS).one("details")
    assert "open" not in details.attributes
    table = _table(details, "all")
    assert list(table) == ["cut good", "bad high", "good wrong", "bad missed", "good low"]
    assert table["cut good"] == ["cut good", "good", "", "UNKNOWN"]
    assert table["bad missed"] == ["bad missed", "defective", "0.2", "OK missed"]
    assert table["good wrong"][-1] == "DEFECT wrong"


def test_facts_stand_at_the_foot() -> None:
    facts = _page(PARTS).one("footer").one("dl")
    keys, values = [node.text for node in facts.all("dt")], [node.text for node in facts.all("dd")]
    assert dict(zip(keys, values, strict=True)) == {
        "Data set": "made:up",
        "Threshold": "0.5",
        "Threshold picked by": "training parts",
        **FACTS,
    }


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs() -> None:
    page = _page(PARTS)
    assert not list(page.all("script"))
    assert not list(page.all("link"))
    assert all(image.attributes["src"].startswith("data:image/jpeg;base64,") for image in page.all("img"))
    assert "url(" not in page.one("style").text
    policy = next(m for m in page.all("meta") if m.attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy.attributes["content"].startswith("default-src 'none'")


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "$title ${x} & &amp;"])
def test_names_are_text_never_markup(name: str) -> None:
    parts = [replace(part, name=f"{name}{i}") for i, part in enumerate(PARTS)]
    page = _page(parts)
    assert not list(page.all("script"))
    assert not any("onerror" in image.attributes for image in page.all("img"))
    assert _section(page, "Missed defects").one("figcaption").one("b").text == f"{name}2"
    assert list(_table(page, "unscored")) == [f"{name}4"]
    assert set(_table(page, "all")) == {part.name for part in parts}


def test_specs_sources_and_facts_are_text_too() -> None:
    evil = "<script>alert(1)</script>"
    scored = score_samples(brightness_backend(), PARTS)
    evaluation = evaluate_scored(scored, threshold=0.5, threshold_source=evil)
    page = Page(report_html(evaluation, scored, Dataset(evil, tuple(PARTS)), {evil: evil})).root
    assert not list(page.all("script"))
    assert evil in page.one("p", "lead").text
    assert evil in page.one("p", "sub").text
    assert [node.text for node in page.one("footer").all("dt")][-1] == evil


def test_a_perfect_set_says_so_and_says_what_it_proves() -> None:
    page = _page([MadePart(f"g{i}", False, 0.1) for i in range(20)] + [MadePart(f"b{i}", True, 0.9) for i in range(7)])
    assert page.one("h1").text == "None of 7 defective parts missed"
    assert page.one("h1").attributes["class"] == "fine"
    assert not list(page.all("figure", "missed"))
    assert _section(page, "Missed defects").one("p").text == "No defective part was missed."
    proof = next(p.text for p in page.all("p") if p.text.startswith("What this set can prove"))
    assert "at most 35 % of all defective parts are missed" in proof  # 1 − 0.05^(1/7)
    assert len(list(page.all("svg"))) == 2
    assert not list(page.all("rect", "wrong"))


def test_an_area_just_below_one_never_shows_as_one() -> None:
    heat = np.zeros((4, 4), np.float32)
    scored = [ScoredSample(f"p{i}", "p", i >= 2000, (i + 1) / 5000, heat, None) for i in range(4000)]
    scored[1999], scored[2000] = replace(scored[1999], positive=True), replace(scored[2000], positive=False)
    page = _page([MadePart(one.name, one.positive, 0.5) for one in scored], scored=scored)
    assert _table(page, "areas")["ROC AUC"] == ["> 0.9999"]


@pytest.mark.parametrize(
    ("parts", "headline"),
    [
        (PARTS[:2], "No defective part in this set: missed defects were not measured"),
        (PARTS[2:4], "1 of 2 defective parts missed"),
        (PARTS[4:], "No defective part in this set: missed defects were not measured"),
    ],
)
def test_a_set_of_one_kind_still_makes_a_page(parts: list[MadePart], headline: str) -> None:
    page = _page(parts)
    assert page.one("h1").text == headline
    assert not list(page.all("table", "areas"))
    assert [tile.one("b").text for tile in page.all("div", "tile")][2] == "not defined"
    assert len(list(page.all("svg"))) == (0 if parts == PARTS[4:] else 1)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"has_mask": False}, "no mask annotated"),
        ({"broken": "mask"}, "its mask cannot be read"),
        ({"broken": "mask size"}, "its mask is of another size"),
    ],
)
def test_a_mask_that_cannot_be_shown_is_named(change: dict[str, object], note: str) -> None:
    page = _page([PARTS[0], replace(PARTS[2], **change)])  # type: ignore[arg-type]
    card = _section(page, "Missed defects").one("figure")
    assert card.one("figcaption").text.endswith(f"; {note}")
    assert [image.attributes["alt"] for image in card.all("img")][1] == "bad missed under its heat map"


def test_a_picture_that_vanished_since_scoring_is_named() -> None:
    scored = score_samples(brightness_backend(), PARTS[:3])
    page = _page([*PARTS[:2], replace(PARTS[2], broken="picture")], scored=scored)
    assert _section(page, "Missed defects").one("figure").one("p").text == "The picture cannot be read any more."


def test_histogram_bars_hold_every_scored_part_on_its_side() -> None:
    page = _page(PARTS)
    histogram = page.one("svg")
    edge = float(histogram.one("line", "threshold").attributes["x1"])
    bars = {css: [float(bar.attributes["x"]) for bar in histogram.all("rect", css)] for css in ("good", "defect")}
    wrong = [float(bar.attributes["x"]) for bar in histogram.all("rect", "wrong")]
    assert all(x < edge for x in bars["good"])
    assert all(x > edge for x in bars["defect"])
    assert [len(bars["good"]), len(bars["defect"]), len(wrong)] == [1, 1, 2]
    assert [node.text for node in histogram.all("text", "strong")][:2] == ["Good parts: 2", "Defective parts: 2"]


@pytest.mark.parametrize(("threshold", "below"), [(0.5, 0.4999999), (1 - 1e-9, 1 - 1e-8), (1e-9, 1e-10)])
def test_the_bar_beside_the_threshold_is_on_the_side_the_station_decides(threshold: float, below: float) -> None:
    svg = Page(histogram_svg([False, True], [below, threshold], threshold)).root.one("svg")
    edge = float(svg.one("line", "threshold").attributes["x1"])
    good, defect = svg.one("rect", "good").attributes, svg.one("rect", "defect").attributes
    assert float(good["x"]) + float(good["width"]) == pytest.approx(edge, abs=1)
    assert float(defect["x"]) == pytest.approx(edge, abs=1)
    assert not list(svg.all("rect", "wrong"))


def test_curve_marks_both_operating_points() -> None:
    _, curve = _page(PARTS).all("svg")
    given, best = curve.one("circle", "given").attributes, curve.one("circle", "best").attributes
    assert float(given["cx"]) < float(best["cx"])  # recall ½ against 1
    right, foot = float(best["cx"]), 300.0
    points = re.findall(r"([\d.]+),([\d.]+)", curve.one("path", "curve").attributes["d"])
    assert float(points[-1][0]) == pytest.approx(right)
    assert all(14 <= float(y) <= foot for _, y in points)


def test_five_thousand_parts_stay_below_five_megabytes(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 200), np.uint8)

    @dataclass(frozen=True)
    class NoisyPart(MadePart):
        def read(self) -> np.ndarray:
            return noise

    parts = [NoisyPart(f"lot{i // 100:03d}/item{i:05d}", i % 5 == 0, 0.5, (300, 200)) for i in range(5000)]
    rng = np.random.default_rng(1)
    heat = rng.random((37, 25), np.float32)
    scored = [ScoredSample(p.name, p.part, p.positive, rng.random(), heat, None) for p in parts]
    evaluation = evaluate_scored(scored, threshold=0.5, threshold_source="training parts")
    write_report(tmp_path / "report.html", evaluation, scored, Dataset("made:up", tuple(parts)), FACTS)
    assert (tmp_path / "report.html").stat().st_size < 5_000_000
    page = Page((tmp_path / "report.html").read_text("utf-8")).root
    wrong = [*_section(page, "Missed defects").all("figure"), *_section(page, "Good parts rejected").all("figure")]
    assert len(wrong) == MOST_PARTS - 12
    assert len(list(_section(page, "Closest calls").all("img"))) == 24
    listed = _section(page, "Good parts rejected").one("details").one("p").text.split(", ")
    missed_rest = list(_section(page, "Missed defects").all("details"))
    rest = len(listed) + sum(len(node.one("p").text.split(", ")) for node in missed_rest)
    assert len(wrong) + rest == len(evaluation.missed) + len(evaluation.rejected_good)
    assert len(_table(page, "all")) == 5000


def test_a_part_that_the_data_set_lacks_is_an_error() -> None:
    scored = score_samples(brightness_backend(), PARTS)
    evaluation = evaluate_scored(scored, threshold=0.5, threshold_source="training parts")
    with pytest.raises(DataError, match="not there, first bad missed"):
        report_html(evaluation, scored, Dataset("made:up", tuple(PARTS[:1])), FACTS)


def test_an_unwritable_place_is_a_storage_error(tmp_path: Path) -> None:
    scored = score_samples(brightness_backend(), PARTS)
    evaluation = evaluate_scored(scored, threshold=0.5, threshold_source="training parts")
    with pytest.raises(StorageError):
        write_report(tmp_path / "none" / "r.html", evaluation, scored, Dataset("made:up", tuple(PARTS)), FACTS)


@pytest.mark.parametrize("limit", [20_000, 5_000, 2_000])
def test_a_jpeg_fits_its_limit_whatever_it_shows(limit: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 300, 3), np.uint8)
    uri = jpeg_uri(noise, limit)
    assert len(base64.b64decode(uri.split(",")[1])) <= limit
    assert max(_decoded(uri).shape) >= 48


def test_a_hair_thin_defect_is_outlined_in_a_small_picture() -> None:
    mask = np.zeros((1408, 512), np.bool_)
    mask[700, 100:400] = True
    drawn = outline(np.full((352, 128), 128, np.uint8), mask)
    assert drawn.shape == (352, 128, 3)
    assert np.any((drawn == (255, 255, 0)).all(axis=2))
    assert (drawn[:150] == 128).all()


def test_shrink_keeps_the_aspect_and_never_grows() -> None:
    assert shrink(np.zeros((1000, 400), np.uint8), 500).shape == (500, 200)
    assert shrink(np.zeros((490, 4), np.uint8), 500).shape == (490, 4)
    assert shrink(np.zeros((4000, 1), np.uint8), 500).shape == (500, 1)


def _decoded(uri: str) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert picture is not None
    return picture
