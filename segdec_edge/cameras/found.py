"""What a camera that was found looks like in a list. Knows no source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FoundCamera:
    """kind and device are what [camera] needs; address: where it hangs (IP address, USB, device node)."""

    kind: str
    device: str
    model: str
    serial: str
    address: str
