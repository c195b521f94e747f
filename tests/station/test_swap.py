"""The swap: every part meets one recipe whole, and nothing is closed that a part still needs."""

from __future__ import annotations

import random
import threading
from queue import Queue

import pytest

from segdec_edge.station.swap import Swapper


class Judge:
    """name and hash belong together; closed_by: the thread that closed it."""

    def __init__(self, number: int) -> None:
        self.name, self.sha256 = f"recipe{number}", f"{number:064x}"
        self.closed_by: list[str] = []

    def close(self) -> None:
        self.closed_by.append(threading.current_thread().name)


def test_thousands_of_parts_under_random_swaps() -> None:
    parts, waiting, judged = 6000, Queue[tuple[int, Judge] | None](maxsize=4), []
    swapper = Swapper(Judge(0))
    judges = [swapper.current()]
    over = threading.Event()

    def grab() -> None:
        for number in range(parts):
            waiting.put((number, swapper.take()), timeout=20)
        waiting.put(None, timeout=20)
        over.set()

    def infer() -> None:
        while (part := waiting.get()) is not None:
            number, judge = part
            assert not judge.closed_by
            judged.append((number, judge.name, judge.sha256))
            swapper.give_back(judge)

    def swap() -> None:
        chance = random.Random(3)
        while not over.wait(chance.random() * 1e-3):
            judges.append(Judge(len(judges)))
            assert swapper.swap(judges[-1]) is judges[-2]

    threads = [threading.Thread(target=work, name=work.__name__, daemon=True) for work in (grab, infer, swap)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert [number for number, _, _ in judged] == list(range(parts))
    assert all(int(sha256, 16) == int(name.removeprefix("recipe")) for _, name, sha256 in judged)
    used = [name for _, name, _ in judged]
    assert len(set(used)) > 10
    assert used == sorted(used, key=lambda name: int(name.removeprefix("recipe")))  # never back to an older one
    assert {thread for judge in judges for thread in judge.closed_by} == {"infer"}
    swapper.close()
    assert {len(judge.closed_by) for judge in judges} == {1}


def test_what_was_replaced_lives_until_its_last_part_is_through() -> None:
    old, new = Judge(1), Judge(2)
    swapper = Swapper(old)
    first, second = swapper.take(), swapper.take()
    swapper.swap(new)
    assert swapper.take() is new
    swapper.give_back(first)
    swapper.give_back(new)
    assert not old.closed_by
    swapper.give_back(second)
    assert len(old.closed_by) == 1 and not new.closed_by


def test_one_that_nobody_uses_is_closed_with_the_next_part() -> None:
    old = Judge(1)
    swapper = Swapper(old)
    with swapper.part() as judge:
        assert judge is old
    swapper.swap(Judge(2))
    assert not old.closed_by
    with swapper.part():
        pass
    assert len(old.closed_by) == 1


def test_a_part_that_fails_gives_back_too() -> None:
    old = Judge(1)
    swapper = Swapper(old)
    with pytest.raises(ZeroDivisionError), swapper.part():
        swapper.swap(Judge(2))
        raise ZeroDivisionError
    assert len(old.closed_by) == 1


def test_its_books_do_not_grow() -> None:
    swapper = Swapper(Judge(0))
    for number in range(1, 500):
        with swapper.part():
            swapper.swap(Judge(number))
    assert (len(swapper._taken), len(swapper._replaced)) == (0, 0)
