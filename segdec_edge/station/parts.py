"""What a part is called at the line, and a counter of the line as a position. Knows no camera and no PLC."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

Identity = Literal["trigger", "encoder", "given"]

_USABLE = re.compile(r"[\x21-\x7e]{1,64}")


class Counter:
    """A counter of the line that starts again at 0 after `bits` bits (also read as a signed number), as a position.

    The position has no end and follows reverse motion. Two readings must be less than half the counter's range apart.
    """

    def __init__(self, bits: int = 32) -> None:
        self._range = 1 << bits
        self._position: int | None = None

    def position(self, raw: int) -> int:
        """The position that a reading stands for: the nearest to the one before; the first is the reading itself."""
        raw %= self._range
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
            return self._take(part_id, str(self._counter.position(encoder)))
        if given is None or given == "":
            return Named(None, "the trigger came without a part id. Check that the PLC writes it before it triggers.")
        return self._take(part_id, str(given))

    def _take(self, part_id: str, name: str) -> Named:
        if not _USABLE.fullmatch(name):
            return Named(None, f"the part id {name[:64]!a} is unusable, wanted 1 to 64 printable ASCII, no blanks.")
        if (holder := self._taken.get(name)) is not None:
            return Named(None, f"the name {name} already belongs to part {holder}. Check for a double trigger.")
        self._taken[name] = part_id
        if len(self._taken) > self._remember:
            self._taken.popitem(last=False)
        return Named(name)
