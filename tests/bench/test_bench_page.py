"""The page holds every line, runs nothing but its own script and loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.bench.page import bench_page
from segdec_edge.bench.plots import accuracy_svg, density, roofline_svg, violins_svg
from segdec_edge.bench.record import Accuracy, Ceiling, Line, NotRun, Ratio, Throughput, read_record, write_record
from segdec_edge.bench.text import in_words, markdown, notes
from segdec_edge.errors import ConfigError
from tests.bench.made_records import made_floor, made_line, made_record

RATIO = Ratio(over="<plain> torch b1", times_faster=8.0, low=7.8, high=8.3)
PLAIN = made_line("<plain>", 80.0, backend="torch")
FAST = made_line(
    "fast", 10.0, ratio=RATIO, floor=made_floor(), flags=("odd",),
    throughput=Throughput(pictures_per_s=111.5, how="2 instances", samples=(111.5,)),
)  # fmt: skip
RECORD = made_record(
    PLAIN, FAST, made_line("same", 79.0, ratio=Ratio(over="<plain> torch b1", times_faster=1.01, low=0.97, high=1.05)),
    not_run=(NotRun(name="fast", backend="tensorrt", batch=None, reason="holds no engine."),),
    ceilings={"onnxruntime": Ceiling(ops_per_s={"fp32": 1e11}, bytes_per_s=2e10, how="made up")},
    flags=("the machine was busy",),
)  # fmt: skip
NUMBERED = list(enumerate(RECORD.lines, start=1))


def test_the_page_allows_its_own_script_alone() -> None:
    page = bench_page(RECORD)
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page
    assert not re.search(r"(?:src|href)=", page)
    assert "<plain>" not in page and "&lt;plain&gt;" in page


def test_the_page_shows_what_is_doubtful_and_what_did_not_run() -> None:
    page = bench_page(RECORD)
    for words in ("8.0 times faster than", "the machine was busy", "holds no engine", "fast onnxruntime b1: odd"):
        assert words in page
    assert page.count('class="doubted"') == 2  # the line in both tables
    assert "@media print" in page


NARROW = [[(1, made_line("a", ms)), (2, made_line("b", 1.01 * ms))] for ms in (0.07, 1.5, 3, 3.3, 7, 33, 72, 712.5)]


@pytest.mark.parametrize(
    "svg",
    [
        *(draw(NUMBERED) for draw in (violins_svg, accuracy_svg)),
        roofline_svg(RECORD, NUMBERED),
        *(violins_svg(lines[:1]) for lines in NARROW),
        *(accuracy_svg(lines) for lines in NARROW),
    ],
)
def test_every_plot_is_whole_and_finite(svg: str) -> None:
    root = ElementTree.fromstring(svg)
    assert "nan" not in svg and "inf" not in svg.replace("infer", "")
    level = [(float(one.attrib["y"]), one.text) for one in root.iter("text") if "y" in one.attrib]
    foot, _ = max(level)  # the axis's name; its numbers stand 21 above
    ticks = [text for y, text in level if abs(foot - 21 - y) < 0.2]
    assert 2 <= len(ticks) == len(set(ticks)), ticks


def test_plots_of_what_is_not_known_are_left_out() -> None:
    alone = made_record(made_line("a", 5.0, accuracy=None))
    assert accuracy_svg([(1, alone.lines[0])]) == roofline_svg(alone, [(1, alone.lines[0])]) == ""
    assert "<h2>Roofline" not in bench_page(alone)


def test_lines_at_nearly_the_same_accuracy_have_an_axis_that_tells_them_apart() -> None:
    lines = [made_line("a", 5.0, accuracy=Accuracy(ap=0.9971)), made_line("b", 9.0, accuracy=Accuracy(ap=0.9972))]
    texts = [one.text for one in ElementTree.fromstring(accuracy_svg(list(enumerate(lines, 1)))).iter("text")]
    levels = [text for text in texts if text is not None and text.startswith("0.99")]
    assert 3 <= len(levels) == len(set(levels)) <= 6


def headline(*lines: Line) -> str:
    return re.findall("<h1>(.*?)</h1>", bench_page(made_record(*lines)))[0]


def test_the_headline_is_of_the_fastest_that_is_still_right() -> None:
    over = Ratio(over="plain torch b1", times_faster=40.0, low=39, high=41)
    plain = made_line("plain", 80.0, backend="torch", accuracy=Accuracy(ap=0.99))
    wrong = made_line("wrong", 2.0, ratio=over, accuracy=Accuracy(ap=0.9889))
    right = made_line("right", 10.0, ratio=over, accuracy=Accuracy(ap=0.989))
    assert headline(plain, wrong, right).startswith("right on onnxruntime: ")
    assert headline(plain, wrong, right).endswith("the fastest within 0.1 points of AP of plain torch b1")
    assert headline(plain, wrong).startswith("plain on torch: ")
    blind = [line.model_copy(update={"accuracy": None}) for line in (plain, wrong)]
    assert headline(*blind).startswith("wrong on") and headline(*blind).endswith("accuracy not measured")


def test_pictures_and_calls_are_told_with_the_figures_that_rest_on_them() -> None:
    few = made_line("few", 5.0, accuracy=Accuracy(ap=0.9, fp=1, fn=2, pictures=135, defective=18))
    enough = made_line("enough", 5.0)
    enough = enough.model_copy(update={"latency": enough.latency.model_copy(update={"count": 100})})
    record = made_record(few, enough)
    for text in (markdown(record), bench_page(record), in_words(record)):
        assert "AP, FP, FN: 135 test pictures, 18 defective." in text
        assert "AP, FP, FN: 40 test pictures, how many defective is not recorded." in text
        assert "p99 needs 100 calls, there were 48." in text
    rows = [line.split(" | ") for line in markdown(record).splitlines() if line.startswith("| ")][:3]
    place = rows[0].index("p99")
    assert rows[1][place] == "–" and float(rows[2][place]) > 5
    assert "| p99 |" in markdown(made_record(few))
    assert [violins_svg([(1, line)]).count('class="ring"') for line in (few, enough)] == [0, 1]


def test_every_head_of_a_table_is_reached_by_keys() -> None:
    page = bench_page(RECORD)
    assert page.count("<th ") == page.count('tabindex="0"') > 20


def test_no_number_covers_another_one_or_a_dot() -> None:
    lines = [made_line(f"a{index}", 300 + 5 * index, accuracy=Accuracy(ap=0.997), seed=index) for index in range(9)]
    svg = ElementTree.fromstring(accuracy_svg(list(enumerate([*lines, made_line("far", 20.0)], start=1))))
    names = {str(number) for number in range(1, 11)}
    labels = [(float(one.attrib["x"]), float(one.attrib["y"])) for one in svg.iter("text") if one.text in names]
    dots = [(float(one.attrib["cx"]), float(one.attrib["cy"]) + 4) for one in svg.iter("circle")]
    assert len(labels) == len(dots) == 10
    for place, (x, y) in enumerate(labels):
        others = [*labels[:place], *dots]
        assert not any(abs(x - left) < 8 and abs(y - top) < 10 for left, top in others), (x, y)


def test_a_density_has_its_peak_where_the_samples_are() -> None:
    logs = np.log10(np.array([10.0] * 30 + [11.0] * 5 + [40.0]))
    places, heights = density(logs)
    assert 10 ** places[heights.argmax()] == pytest.approx(10, rel=0.05)
    assert np.isfinite(density(np.full(8, 1.0))[1]).all()


def test_the_tables_for_a_readme_are_made_of_the_record() -> None:
    text = markdown(RECORD)
    assert "| fast | onnxruntime | fp32 | 1 |" in text
    assert "8.00 (7.80 to 8.30)" in text
    assert "1.01 (0.97 to 1.05) ≈ 1" in text
    assert "111.5" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|") and "times faster" not in line}
    assert len(widths) <= 2


def test_floors_on_boards_are_told_once_an_artefact() -> None:
    floors = {"orin-nano-super": 2.5, "agx-orin-64": 0.75}
    both = [made_line("fast", 10.0, backend=name, board_floors_ms=floors) for name in ("onnxruntime", "openvino")]
    text, page = markdown(made_record(PLAIN, *both)), bench_page(made_record(PLAIN, *both))
    assert "| form | precision | batch | orin-nano-super | agx-orin-64 |" in text
    assert text.count("| fast | fp32 | 1 | 2.500 | 0.750 |") == 1
    assert "On boards that are not here" in page and page.count('data-value="0.75"') == 1
    assert "not here" not in markdown(RECORD) + bench_page(RECORD)


def test_the_terminal_says_what_is_timed_and_what_is_not() -> None:
    text = in_words(RECORD)
    assert RECORD.timed in text and RECORD.not_timed in text
    assert "not run: fast tensorrt: holds no engine." in text
    assert any(line.startswith("DOUBT: the machine was busy") for line in notes(RECORD))


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_record(path, RECORD)
    assert read_record(path) == RECORD


@pytest.mark.parametrize("content", [None, "{", "[]", '{"format": 2}', '{"format": 1}'])
def test_what_is_no_record_is_one_clear_line(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_record(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "samples", [{}, {"infer": []}, {"infer": [[]]}, {"infer": [[1.0], [1.0, 2.0]]}, {"infer": [[0.0]]},
                {"infer": [[-1.0]]}, {"infer": [[float("nan")]]}, {"infer": [[float("inf")]]}],
)  # fmt: skip
def test_samples_that_no_clock_gave_are_one_clear_line(samples: dict[str, object], tmp_path: Path) -> None:
    values = json.loads(RECORD.model_dump_json())
    values["lines"][1]["samples"] = samples
    path = tmp_path / "r.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"lines\.1\.samples.*Run segdec bench --json anew") as caught:
        read_record(path)
    assert "\n" not in str(caught.value)
