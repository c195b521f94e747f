"""N of M: what the last frames of a free-running camera say together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segdec_edge.station.debounce import Debounce
from segdec_edge.types import Label

WORDS = {".": Label.OK, "x": Label.DEFECT, "?": Label.UNKNOWN}


def told(debounce: Debounce, labels: str) -> str:
    signs = {label: sign for sign, label in WORDS.items()}
    return "".join(signs[debounce.add(WORDS[one]).label] for one in labels)


@pytest.mark.parametrize(
    ("labels", "events"),
    [
        (".....", "????."),
        ("x....x....", "????......"),
        ("x.x.......", "??xxx....."),
        ("?.?.......", "??xxx....."),
        (".....xx.....", "????..xxxx.."),
        (".....x...x..", "????.....x.."),
    ],
)
def test_two_of_five(labels: str, events: str) -> None:
    assert told(Debounce(5, 2), labels) == events.replace(" ", "")


def test_hysteresis_holds_the_event_on() -> None:
    assert told(Debounce(5, 3, release=1), ".....xxx.....") == "????...xxxxx."
    assert told(Debounce(5, 3), ".....xxx.....") == "????...xxx..."


def test_one_of_one_is_the_frame_itself() -> None:
    assert told(Debounce(1, 1), "x.?.x") == "x.x.x"


def test_a_change_is_told_once() -> None:
    debounce = Debounce(3, 2)
    events = [debounce.add(WORDS[one]) for one in "..xx.."]
    assert [one.changed for one in events] == [False, False, True, True, False, True]
    assert [(one.bad, one.seen) for one in events] == [(0, 1), (0, 2), (1, 3), (2, 3), (2, 3), (1, 3)]


def test_after_a_reset_nothing_is_ok_until_the_window_is_full() -> None:
    debounce = Debounce(3, 2)
    assert told(debounce, "...") == "??."
    debounce.reset()
    assert debounce.label is Label.UNKNOWN
    assert told(debounce, "x..") == "??."
    assert told(debounce, "xx") == ".x"
    debounce.reset()
    assert told(debounce, "...") == "??."


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 8), st.text(".x?", max_size=60))
def test_against_the_words_of_the_rule(frames: int, defects: int, release: int, labels: str) -> None:
    frames, defects, release = max(frames, defects, release), max(defects, release), release
    debounce, before = Debounce(frames, defects, release), "?"
    for end in range(1, len(labels) + 1):
        window = labels[max(0, end - frames) : end]
        bad = len(window) - window.count(".")
        now = told(debounce, labels[end - 1])
        if bad >= defects:
            assert now == "x"
        elif before == "x":
            assert now == ("x" if bad >= release or len(window) < frames else ".")
        else:
            assert now == ("." if len(window) == frames else "?")
        before = now


@pytest.mark.parametrize("numbers", [(3, 4), (3, 0), (0, 0), (3, 2, 3), (3, 2, 0)])
def test_numbers_that_do_not_fit_are_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="wanted 1 <= each <= the next"):
        Debounce(*numbers)
