"""The books: triggers, verdicts and rows are counted where they happen, and must agree. Knows no thread's business.

A difference that stays is a fault of this program or of the disk, and an alarm: somebody must look for that part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from segdec_edge.station.alarms import Alarms

PERIOD_S = 0.5
_PATIENCE = 4
"""Checks in a row that must show the same difference: counters of several threads are not read at one instant."""


@dataclass(frozen=True)
class Balance:
    """One camera's parts. triggers as its feed counted them, opened and settled as the register did, issued as they
    went out. For the whole station under the name "": issued verdicts and the rows recorded, waiting or lost.
    """

    name: str
    left: int
    right: int
    meaning: str

    @property
    def gap(self) -> int:
        return self.left - self.right


class Books:
    """balances: how each pair of counters stands now."""

    def __init__(self, balances: Callable[[], Sequence[Balance]], alarms: Alarms) -> None:
        self._balances, self._alarms = balances, alarms
        self._next_ns = 0
        self._seen: dict[tuple[str, str], tuple[int, int]] = {}

    def check(self, now_ns: int) -> int | None:
        """For the watch."""
        if now_ns >= self._next_ns:
            self._next_ns = now_ns + round(PERIOD_S * 1e9)
            for balance in self._balances():
                self._compare(balance)
        return None

    def _compare(self, balance: Balance) -> None:
        key, alarm = (balance.name, balance.meaning), f"books {balance.name} {balance.meaning}".replace("  ", " ")
        if balance.gap == 0:
            self._seen.pop(key, None)
            self._alarms.cleared(alarm)
            return
        gap, times = self._seen.get(key, (balance.gap, 0))
        self._seen[key] = (balance.gap, times + 1 if gap == balance.gap else 1)
        if self._seen[key][1] >= _PATIENCE:
            self._alarms.raised(alarm, f"{balance.meaning}: {balance.left} and {balance.right}, {balance.gap:+d} parts")
