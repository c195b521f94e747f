"""Names of parts: never one name for two."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segdec_edge.station.parts import Counter, Named, Names


def test_by_trigger_a_part_has_only_our_own_id() -> None:
    names = Names()
    assert [names.name(one, encoder=5, given="x") for one in ("a", "b")] == [Named(None), Named(None)]


def test_by_encoder_the_position_is_the_name_over_the_wrap() -> None:
    names = Names("encoder")
    found = [names.name(str(raw), encoder=raw).given_id for raw in (2**32 - 10, 5, 40)]
    assert found == [str(2**32 - 10), str(2**32 + 5), str(2**32 + 40)]


@pytest.mark.parametrize("identity", ["encoder", "given"])
def test_a_missing_name_is_a_fault(identity: str) -> None:
    names = Names(identity)
    named = names.name("a")
    assert named.given_id is None
    assert named.fault is not None
    assert "came without" in named.fault


def test_a_repeated_name_is_a_fault_and_the_first_part_keeps_it() -> None:
    for names, value in ((Names("given"), {"given": "A7"}), (Names("encoder"), {"encoder": 7})):
        first, second, third = (names.name(part, **value) for part in ("p1", "p2", "p3"))
        assert first.given_id is not None
        assert first.fault is None
        for later in (second, third):
            assert later.given_id is None
            assert later.fault is not None
            assert "already belongs to part p1" in later.fault


def test_a_number_and_its_text_are_one_name_and_zero_is_a_name() -> None:
    names = Names("given")
    assert names.name("p0", given=0).given_id == "0"
    assert names.name("p1", given=17).given_id == "17"
    assert names.name("p2", given="17").given_id is None


@pytest.mark.parametrize("value", [" ", "A 7", "A\n7", "Ä", "x" * 65, "\0", "\x7f"])
def test_a_name_that_could_be_misread_is_a_fault(value: str) -> None:
    named = Names("given").name("p", given=value)
    assert named.given_id is None
    assert named.fault is not None
    assert "unusable" in named.fault
    assert "\n" not in named.fault


def test_a_name_may_come_again_after_as_many_parts_as_are_remembered() -> None:
    names = Names("given", remember=3)
    assert all(names.name(f"p{one}", given=one % 4).given_id for one in range(100))
    names = Names("given", remember=4)
    assert [names.name(f"p{one}", given=one % 4).given_id for one in range(5)] == ["0", "1", "2", "3", None]
    assert len(names._taken) == 4


@given(st.lists(st.one_of(st.none(), st.integers(0, 9), st.sampled_from(["", "a", " ", "1"])), max_size=60))
def test_never_two_parts_under_one_name(values: list[int | str | None]) -> None:
    names = Names("given")
    named = [names.name(f"p{number}", given=value) for number, value in enumerate(values)]
    found = [one.given_id for one in named if one.given_id is not None]
    assert len(found) == len(set(found))
    assert all((one.given_id is None) == (one.fault is not None) for one in named)


@given(st.integers(8, 40), st.integers(0, 2**40), st.lists(st.integers(-127, 127)))
def test_a_position_follows_the_counter_forward_and_back(bits: int, start: int, steps: list[int]) -> None:
    counter = Counter(bits)
    first = counter.position(start % 2**bits)
    true = start
    for step in steps:
        true += step
        assert counter.position(true % 2**bits) - first == true - start
        assert counter.raw(counter.position(true % 2**bits)) == true % 2**bits


def test_a_counter_read_as_a_signed_number_is_the_same_counter() -> None:
    counter = Counter(32)
    assert [counter.position(raw) for raw in (2**31 - 1, -(2**31), -(2**31) + 5, -1, 0)] == [
        2**31 - 1,
        2**31,
        2**31 + 5,
        2**32 - 1,
        2**32,
    ]


NO_COUNT = [
    2.0,
    float("nan"),
    float("inf"),
    True,
    "7",
    b"7",
    [7],
    np.float32(7),
    np.arange(3),
    2**32,
    -(2**31) - 1,
    10**400,
]


@pytest.mark.parametrize("reading", NO_COUNT, ids=lambda reading: type(reading).__name__)
def test_what_is_no_count_is_a_fault_in_one_line_and_moves_nothing(reading: object) -> None:
    names = Names("encoder")
    assert names.name("p0", encoder=7).given_id == "7"
    named = names.name("p1", encoder=reading)  # type: ignore[arg-type]
    assert named.given_id is None
    assert named.fault is not None
    assert "is unusable, wanted a whole number of 32 bits. Check how" in named.fault
    assert "\n" not in named.fault
    assert len(named.fault) < 250
    assert names.name("p2", encoder=-1).given_id == "-1"  # read as a signed number
    assert names.name("p3", encoder=np.int64(8)).given_id == "8"


@pytest.mark.parametrize("value", [2.0, float("nan"), False, b"A7", ["A7"], np.arange(3), 10**64, 10**400, {"id": 1}])
def test_what_is_no_id_is_a_fault_in_one_line(value: object) -> None:
    named = Names("given").name("p", given=value)  # type: ignore[arg-type]
    assert named.given_id is None
    assert named.fault is not None
    assert "unusable" in named.fault
    assert "\n" not in named.fault
    assert len(named.fault) < 250
