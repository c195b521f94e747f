from __future__ import annotations

import math
from typing import Any

import pytest

from segdec_edge.bench.baseline import LOADING, RATE, compare, require_rule
from segdec_edge.bench.record import Accuracy, BenchRecord, Cost, NotRun, Ratio, Throughput
from segdec_edge.errors import ConfigError
from segdec_edge.timing import student
from tests.bench.made_records import made_line, made_record

OLD = made_record(made_line("parts", 10.0), made_line("folded", 5.0))
COLD = OLD.settings.model_copy(update={"untimed": 0, "calls": 1})


def test_the_same_speed_on_another_day_is_no_regression() -> None:
    found = compare(OLD, made_record(made_line("parts", 10.2, seed=1), made_line("folded", 4.9, seed=2)))
    assert not found.regressed
    assert [change.key for change in found.changes] == ["parts onnxruntime b1", "folded onnxruntime b1"]


def test_slower_beyond_noise_and_tolerance_is_one() -> None:
    found = compare(OLD, made_record(made_line("parts", 11.5, seed=1), made_line("folded", 5.0, seed=2)))
    assert found.regressed
    assert [bool(change.regressions) for change in found.changes] == [True, False]
    assert "SLOWER" in found.changes[0].in_words()
    assert not compare(OLD, made_record(made_line("parts", 11.5, seed=1)), tolerance=0.3).regressed
    assert not compare(OLD, made_record(made_line("parts", 5.0, seed=1))).regressed


def test_noise_as_large_as_the_difference_hides_it() -> None:
    noisy = made_line("parts", 11.5)
    wild = {"infer": tuple(tuple(11.5 * (3.0 if number % 2 else 0.5) for _ in range(8)) for number in range(6))}
    assert not compare(OLD, made_record(noisy.model_copy(update={"samples": wild}))).regressed


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        ({"fn": 3}, "3 DEFECTS MISSED after 2"),
        ({"fp": 2}, "2 GOOD PARTS REJECTED after 1"),
        ({"ap": 0.9785}, "AP 0.9785"),
        ({"fn": None}, "CANNOT BE SCORED"),
    ],
)
def test_less_accurate_is_a_regression_at_any_speed(marks: dict[str, object], words: str) -> None:
    before = {"ap": 0.98, "fp": 1, "fn": 2, "pictures": 40, "threshold": 0.5}
    found = compare(OLD, made_record(made_line("parts", 5.0, accuracy=Accuracy(**{**before, **marks}))))
    assert found.regressed
    assert words in found.changes[0].in_words()


def test_accuracy_on_other_pictures_is_not_compared() -> None:
    worse = made_line("parts", 10.0, accuracy=Accuracy(ap=0.5, fp=9, fn=9, pictures=40, threshold=0.5))
    settings = OLD.settings.model_copy(update={"data": "folder:others"})
    assert not compare(OLD, made_record(worse, settings=settings)).regressed


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (made_record(made_line("parts", 10.0), machine={"cpu": "another"}), "another machine"),
        (made_record(made_line("parts", 10.0, sha256="b" * 64)), "another file under the same name"),
        (made_record(made_line("parts", 10.0), settings=COLD), "other turns"),
    ],
)
def test_other_machines_and_files_are_refused_unless_asked(new, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=words):
        compare(OLD, new)
    assert any(words in note for note in compare(OLD, new, anyway=True).notes)


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(ConfigError, match="no form with this name"):
        compare(OLD, made_record(made_line("other", 10.0)), anyway=True)


def test_other_versions_are_told_and_all_slower_with_them_is_a_regression() -> None:
    code = OLD.code.model_copy(update={"versions": {"onnxruntime": "2"}})
    found = compare(with_reference(10.0, 5.0, 2.0), with_reference(13.0, 6.5, 2.6, seed=9, code=code))
    assert any("onnxruntime 1 → 2" in note for note in found.notes)
    assert all("SLOWER, " in " ".join(change.regressions) for change in found.changes)


def with_reference(*ms: float, seed: int = 0, **changes: Any) -> BenchRecord:
    """The first is what the others are compared with."""
    over = Ratio(over="plain onnxruntime b1", times_faster=2.0, low=1.9, high=2.1)
    lines = [
        made_line(name, one, seed=seed + place, ratio=over if place else None)
        for place, (name, one) in enumerate(zip(("plain", "a", "b"), ms, strict=True))
    ]
    return made_record(*lines, **changes)


def test_all_slower_alike_is_the_machine_and_one_of_them_more_so_is_that_form() -> None:
    old = with_reference(10.0, 5.0, 2.0)
    alike = compare(old, with_reference(13.0, 6.5, 2.6, seed=9))
    assert not alike.regressed
    assert any("ALL of them, the reference included, became slower alike (by 1." in note for note in alike.notes)
    assert any("5 figures compared" in note for note in alike.notes)  # three latencies, two against the reference
    one = compare(old, with_reference(13.0, 6.5, 3.6, seed=9))
    assert one.regressed and not any("ALL of them" in note for note in one.notes)
    cooler = compare(old, with_reference(5.0, 2.5, 1.5, seed=9))
    assert [bool(change.regressions) for change in cooler.changes] == [False, False, True]
    assert "SLOWER against plain onnxruntime b1 of the same run" in cooler.changes[2].in_words()


def test_the_more_figures_the_wider_their_intervals() -> None:
    assert [round(student(freedom), 3) for freedom in (1, 2, 5, 6, 29)] == [12.706, 4.303, 2.571, 2.447, 2.045]
    assert round(student(5, 10), 3) == 4.773 and round(student(3, 10), 3) == 7.453  # tables of Student's t
    alone, among = (compare(one, one).changes[0].slower for one in (made_record(OLD.lines[0]), OLD))
    assert (among.high or 0) > (alone.high or 9)


@pytest.mark.parametrize("place", [0, 1])
def test_one_sitting_can_tell_no_slowdown_and_is_refused(place: int) -> None:
    line = made_line("parts", 10.0)
    both = [OLD, OLD]
    both[place] = made_record(line.model_copy(update={"samples": {"infer": line.samples["infer"][:1]}}))
    with pytest.raises(ConfigError, match="1 sitting in one of the two runs, wanted 2 or more"):
        compare(*both)
    require_rule(0.05, 6, 2)


@pytest.mark.parametrize("tolerance", [math.nan, math.inf, -0.01])
def test_a_tolerance_that_is_no_limit_is_refused(tolerance: float) -> None:
    with pytest.raises(ConfigError, match="--tolerance"):
        compare(OLD, OLD, tolerance)


def test_what_ran_before_and_does_not_now_is_a_regression_only_where_it_was_asked_for() -> None:
    lines = [made_line(name, 10.0, backend=backend) for name, backend in
             (("parts", "onnxruntime"), ("parts", "openvino"), ("parts", "tensorrt/sm87"), ("other", "onnxruntime"))]  # fmt: skip # noqa: E501
    refused = [NotRun(name="parts", backend=backend, batch=None, reason="is broken") for backend in ("openvino", "tensorrt")]  # fmt: skip # noqa: E501
    not_asked = NotRun(name="other", backend="onnxruntime", batch=None, reason="is fp32, asked for int8", asked=False)
    found = compare(made_record(*lines), made_record(lines[0], not_run=(*refused, not_asked)))
    assert found.regressed
    assert found.gone == (
        "parts openvino b1: DOES NOT RUN ANY MORE: is broken",
        "parts tensorrt/sm87 b1: DOES NOT RUN ANY MORE: is broken",
    )
    assert "not asked for, so not compared: other onnxruntime b1" in found.notes
    assert not compare(made_record(*lines), made_record(lines[0])).regressed


@pytest.mark.parametrize(
    ("settings", "accuracy", "words"),
    [
        ({"data": None, "subset": None}, None, "ACCURACY NOT COMPARED: no --data, before folder:parts test"),
        ({"data": "folder:others"}, Accuracy(fp=9, fn=9, pictures=40), "folder:others test, before folder:parts test"),
        ({}, Accuracy(fp=9, fn=9, pictures=41), "parts onnxruntime b1 on 41 pictures, before on 40"),
    ],
)
def test_accuracy_that_is_not_compared_is_told(
    settings: dict[str, object], accuracy: Accuracy | None, words: str
) -> None:
    new = made_record(made_line("parts", 10.0, accuracy=accuracy), settings=OLD.settings.model_copy(update=settings))
    found = compare(OLD, new)
    assert not found.regressed
    assert any(words in note for note in found.notes)


def test_one_that_cannot_be_scored_any_more_is_a_regression() -> None:
    found = compare(OLD, made_record(made_line("parts", 10.0, accuracy=Accuracy(unknown="it gave no score"))))
    assert found.changes[0].regressions == ("CANNOT BE SCORED ANY MORE: it gave no score",)


def test_throughput_and_loading_are_compared_by_the_same_rule() -> None:
    def record(rate: float, load_ms: float) -> BenchRecord:
        spread = (0.99, 1.0, 1.01)
        told = Throughput(pictures_per_s=rate, how="1 instance", samples=tuple(rate * one for one in spread))
        cost = Cost(load_ms=load_ms, load_samples_ms=tuple(load_ms * one for one in (*spread, *spread)))
        return made_record(made_line("parts", 10.0, throughput=told, cost=cost))

    assert not compare(record(100, 50), record(101, 49)).regressed
    slower = compare(record(100, 50), record(50, 50)).changes[0]
    assert [words.split(",")[0] for words in slower.regressions] == [RATE]
    assert [words.split(",")[0] for words in compare(record(100, 50), record(100, 90)).changes[0].regressions] == [
        LOADING
    ]
    notes = compare(OLD, OLD).notes
    assert any(note.startswith("pictures/s not compared") for note in notes)
    assert any("first verdict and memory" in note for note in notes)
