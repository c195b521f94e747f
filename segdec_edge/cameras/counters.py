"""What a camera counted since it was opened. Knows no camera."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CameraCounters:
    """Totals of one camera object; a camera that was rebuilt starts at zero.

    triggers: sent, or counted through frame ids; frames: whole ones given out; incomplete: pictures with missing parts;
    gaps: pictures of which nothing came, by the device's frame ids; reasons: every picture or trigger without a frame
    given out, by why.
    """

    frames: int = 0
    triggers: int = 0
    incomplete: int = 0
    gaps: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
