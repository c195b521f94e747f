"""Which layers to leave out of INT8, given only a way to ask whether a choice is good enough. Knows no graph, no score.

Trying all subsets of 13 layers would take 8192 evaluations. Leaving more layers out nearly always helps, so the
shortest sufficient head of the list of layers, most sensitive first, is found by halving (4 evaluations); then each
layer of it is tried in INT8 again, because another one may have been enough. At most 4 + 13 evaluations, usually 6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Passes = Callable[[frozenset[str]], bool]
"""Asked with the layers that are left out of INT8."""


def fewest_left_out(most_sensitive_first: Sequence[str], passes: Passes) -> frozenset[str] | None:
    """Few layers whose leaving out passes, none of which can be taken back alone; None where not even all of them do.

    `passes` is asked at most once for each choice, and has said yes to the one that comes back.
    """
    asked: dict[frozenset[str], bool] = {}

    def good(left: frozenset[str]) -> bool:
        if left not in asked:
            asked[left] = passes(left)
        return asked[left]

    head = _shortest_head(most_sensitive_first, good)
    return None if head is None else _take_back(most_sensitive_first, head, good)


def _shortest_head(order: Sequence[str], good: Passes) -> frozenset[str] | None:
    if good(frozenset()):
        return frozenset()
    low, high = 0, len(order)  # a head of `low` layers does not pass
    if not good(frozenset(order)):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if good(frozenset(order[:middle])) else (middle, high)
    return frozenset(order[:high])


def _take_back(order: Sequence[str], left: frozenset[str], good: Passes) -> frozenset[str]:
    """Least sensitive first: the one that is likeliest not to be needed."""
    for layer in reversed([one for one in order if one in left]):
        if good(left - {layer}):
            left -= {layer}
    return left
