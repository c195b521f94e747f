"""What the rule of --baseline does to a record of aa.py: false alarms by distance in time, and what it finds.

All repeats are of equal artefacts, so whatever is called slower is a false alarm; a true slowdown is one repeat's
samples multiplied. Pairs are of both copies. Where the machine drifts one way, one direction alone shows it, so each is
told. Pure: measures nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from segdec_edge.bench.baseline import TOLERANCE
from segdec_edge.timing import Floats, cluster_error, student

DISTANCES = (1, 5, 10, 20, 30)
SLOWDOWNS = (1.1, 1.2, 1.3, 1.5)


def rule_on(repeats: Sequence[Any], tolerance: float = TOLERANCE) -> list[dict[str, Any]]:
    """A row for each distance that there are repeats for. repeats: of each both forms' milliseconds, (sittings, calls).

    later_slower, earlier_slower: share of the pairs where that one is called slower though both are equal; found: share
    called slower, of both directions together, where one is slower by that factor.
    """
    told = [[_told(np.log(np.array(form))) for form in repeat] for repeat in repeats]
    rows = []
    for distance in (one for one in DISTANCES if one < len(told)):
        pairs = [(a, b) for early, late in zip(told, told[distance:], strict=False) for a in early for b in late]
        later, earlier = (np.array([_low(*pair) for pair in way]) for way in (pairs, [(b, a) for a, b in pairs]))
        both = np.concatenate([later, earlier])
        rows.append(
            {
                "distance": distance,
                "pairs": len(pairs),
                "later_slower": _share(later, tolerance),
                "earlier_slower": _share(earlier, tolerance),
                "found": {f"{factor:g}": _share(both * factor, tolerance) for factor in SLOWDOWNS},
            }
        )
    return rows


def _share(lows: Floats, tolerance: float) -> float:
    return float((lows > 1 + tolerance).mean())


def _told(logs: Floats) -> tuple[float, float, int]:
    error = cluster_error(logs)
    return float(np.median(logs)), math.inf if error is None else error, len(logs)


def _low(before: tuple[float, float, int], after: tuple[float, float, int]) -> float:
    """The lower end of baseline.slower_samples(), each repeat's error worked out once; 0 where it has none."""
    reach = math.hypot(before[1], after[1])
    if math.isinf(reach):
        return 0.0
    return math.exp(after[0] - before[0] - student(min(before[2], after[2]) - 1) * reach)


def rule_table(record: dict[str, Any]) -> str:
    """Markdown from a record's raw samples."""
    heads = ["backend", "measurements apart", "pairs", "equal: later called slower", "equal: earlier called slower"]
    heads += [f"{100 * (factor - 1):.0f} % slower, found" for factor in SLOWDOWNS]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for backend, repeats in record["milliseconds"].items():
        for row in rule_on(repeats):
            shares = [row["later_slower"], row["earlier_slower"], *row["found"].values()]
            cells = [backend, row["distance"], row["pairs"], *(f"{100 * share:.1f} %" for share in shares)]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"
