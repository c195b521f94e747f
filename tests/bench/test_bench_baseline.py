from __future__ import annotations

import pytest

from segdec_edge.bench.baseline import compare
from segdec_edge.bench.record import Accuracy
from segdec_edge.errors import ConfigError
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


def test_what_is_gone_other_versions_and_a_slow_machine_are_told() -> None:
    code = OLD.code.model_copy(update={"versions": {"onnxruntime": "2"}})
    three = [made_line(name, 10.0) for name in ("a", "b", "c")]
    slower = [made_line(name, 13.0) for name in ("a", "b")]
    notes = " ".join(compare(made_record(*three, made_line("parts", 10.0)), made_record(*slower, made_line("c", 13.0), code=code)).notes)  # fmt: skip # noqa: E501
    assert "onnxruntime 1 → 2" in notes
    assert "not measured this time: parts onnxruntime b1" in notes
    assert "changed alike" in notes
