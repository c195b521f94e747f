"""What a part is called at the line, and a counter of the line as a position. Knows no camera and no PLC."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from operator import index
from typing import Literal, SupportsIndex

Identity = Literal["trigger", "encoder", "given"]

_USABLE = re.compile(r"[\x21-\x7e]{1,64}")


class Counter:
    """A counter of the line that starts again at 0 after `bits` bits (also read as a signed number), as a position.

    The position has no end and follows reverse motion. Two readings must be less than half the counter's range apart.
    """

    def __init__(self, bits: int = 32) -> None:
        self._range = 1 << bits
        self._position: int | None = None

    def fault(self, reading: object) -> str | None:
        """Why this is no reading of this counter, in words; None where it is one."""
        count = _whole(reading)
        if count is not None and -self._range // 2 <= count < self._range:
            return None
        return (
            f"the count {_shown(reading)} is unusable, wanted a whole number of {self._range.bit_length() - 1} bits."
            " Check how the line's counter is read, and parts.counter_bits."
        )

    def position(self, raw: int) -> int:
        """The position that a reading stands for: the nearest to the one before; the first is the reading itself."""
        raw = index(raw) % self._range  # Python's own number: numpy's would overflow
        if self._position is None:
            self._position = raw
        half = self._range // 2
        self._position += (raw - self._position + half) % self._range - half
        return self._position

    def raw(self, position: int) -> int:
        """What the counter shows at a position, unsigned."""
        return position % self._range


@dataclass(frozen=True)
class Named:
    """given_id: the part's name at the line, None where it has none; fault: why the line could not know which part a
    verdict is about, so that the part must be UNKNOWN and an alarm be raised; None where all is well.
    """

    given_id: str | None
    fault: str | None = None


class Names:
    """Gives each part its name at the line, and no name to two of the last `remember` parts.

    "trigger": none beside our own part id. "encoder": the counter's position. "given": what the PLC sent. A missing or
    unusable name, and one that a part before has, is a fault: that part stays without a name (its own part id is in the
    ledger all the same), is UNKNOWN, and the one before keeps its name. Whether a repeated id is a repeated trigger or
    a PLC that did not count on cannot be told; so it is told as an alarm. What another run named is not known here.
    """

    def __init__(self, identity: Identity = "trigger", remember: int = 1000, counter_bits: int = 32) -> None:
        self._identity, self._remember = identity, remember
        self._counter = Counter(counter_bits)
        self._taken: OrderedDict[str, str] = OrderedDict()

    def name(self, part_id: str, *, encoder: int | None = None, given: str | int | None = None) -> Named:
        """The name of the part part_id. encoder: the counter as read at the trigger; given: the PLC's id."""
        if self._identity == "trigger":
            return Named(None)
        if self._identity == "encoder":
            if encoder is None:
                return Named(None, "the trigger came without an encoder count. Check the encoder and its wiring.")
            fault = self._counter.fault(encoder)
            return Named(None, fault) if fault else self._take(part_id, str(self._counter.position(encoder)))
        if given is None or (isinstance(given, str) and not given):
            return Named(None, "the trigger came without a part id. Check that the PLC writes it before it triggers.")
        named = as_given(given)
        return named if named.given_id is None else self._take(part_id, named.given_id)

    def _take(self, part_id: str, name: str) -> Named:
        if (holder := self._taken.get(name)) is not None:
            return Named(None, f"the name {name} already belongs to part {holder}. Check for a double trigger.")
        self._taken[name] = part_id
        if len(self._taken) > self._remember:
            self._taken.popitem(last=False)
        return Named(name)


def as_given(given: object) -> Named:
    """What the PLC sent as a part's id, as text, or why it can be none."""
    number = _whole(given)
    name = str(number) if number is not None and abs(number) < 10**64 else given
    if isinstance(name, str) and _USABLE.fullmatch(name):
        return Named(name)
    return Named(None, f"the part id {_shown(given)} is unusable, wanted 1 to 64 printable ASCII, no blanks.")


def _whole(value: object) -> int | None:
    """A whole number as Python's own; None for all else, also for True and 3.0."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        return None
    try:
        return index(value)
    except TypeError:  # an array has the method too
        return None


def _shown(value: object) -> str:
    """For one line of the log."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"of {value.bit_length()} bits"
    return " ".join(ascii(value).split())[:64]
