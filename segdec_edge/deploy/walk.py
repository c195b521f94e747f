"""Rebuild a network layer by layer, each new one fitted behind those that are new already. Knows no way to fit one.

32 pictures of 1408×512 are 2.8 GiB behind the first convolution, once as the old network has them and once as the new
one does. What would take more than a share of the free memory is not kept, but computed again when it is asked for:
the early layers, whose results are the largest, are the cheap ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from segdec_edge.data.memory import available_bytes
from segdec_edge.deploy.network import Conv, Layer, Network, Norm
from segdec_edge.deploy.torch_network import planes_of, run, standardised
from segdec_edge.types import Pixels

MOST = 3 << 29
"""Bytes of what one layer gives on all pictures that may be kept; about three of these are there at a time."""
_PART = 8
"""Nor may it be more than this part of the memory that is free."""


class States:
    """What one layer gets or gives, one (1, C, H, W) for each picture; kept, or computed at every iteration."""

    def __init__(self, values: Callable[[], Iterable[Tensor]], count: int) -> None:
        self._values, self._count = values, count

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._values())

    def behind(self, layers: Sequence[Layer]) -> States:
        """What the layers make of it, never kept."""
        return States(lambda: (run(layers, one) for one in self), self._count)

    def through(self, layers: Sequence[Layer], most: int | None = None) -> States:
        """What the layers make of it, kept where that takes at most `most` bytes; None: by what is free."""
        made = self.behind(layers)
        values = iter(made)
        first = next(values)
        if first.nbytes * self._count > (min(MOST, available_bytes() // _PART) if most is None else most):
            return made
        kept = [first, *values]
        return States(lambda: kept, self._count)

    def joined(self, other: States) -> States:
        """The channels of both."""
        return States(lambda: (torch.cat(pair, dim=1) for pair in zip(self, other, strict=True)), self._count)


Fit: TypeAlias = Callable[[tuple[Layer, ...], States, States], tuple[Layer, ...]]
"""(old layers, what the new ones get, what the old network has behind the old ones) → new layers."""
Progress: TypeAlias = Callable[[str], None]


def rebuilt(network: Network, start: Network, pixels: Pixels, fit: Fit, progress: Progress | None = None) -> Network:
    """`start` with `fit` applied to every convolution (with the norm behind it) of `network`, first to last.

    start: as network, but for its standardisation. pixels (N, H, W, C) uint8, training pictures. The targets come from
    `network`, the inputs from what is new already: each layer makes up for what the ones before it lost.
    """
    with torch.inference_mode():
        wanted, given = _planes(network, pixels), _planes(start, pixels)
        trunk, given, wanted = _part(network.trunk, given, wanted, fit, progress)
        segmentation, logits, wanted_logits = _part(network.segmentation, given, wanted, fit, progress)
        both, wanted_both = given.joined(logits), wanted.joined(wanted_logits)
        decision, _, _ = _part(network.decision, both, wanted_both, fit, progress)
    return replace(start, trunk=trunk, segmentation=segmentation, decision=decision)


def _planes(network: Network, pixels: Pixels) -> States:
    return States(lambda: (standardised(planes_of(one[None]), network.standardise) for one in pixels), len(pixels))


def _part(
    layers: Sequence[Layer], given: States, wanted: States, fit: Fit, progress: Progress | None
) -> tuple[tuple[Layer, ...], States, States]:
    new: list[Layer] = []
    for unit in units(layers):
        wanted = wanted.through(unit)
        replaced = unit
        if isinstance(unit[0], Conv):
            if progress is not None:
                progress(unit[0].name)
            replaced = fit(unit, given, wanted)
        given = given.through(replaced)
        new.extend(replaced)
    return tuple(new), given, wanted


def units(layers: Sequence[Layer]) -> Iterator[tuple[Layer, ...]]:
    """Each convolution with the norm behind it, every other layer alone."""
    waiting: tuple[Layer, ...] = ()
    for layer in layers:
        if isinstance(layer, Norm) and waiting:
            yield (*waiting, layer)
            waiting = ()
            continue
        if waiting:
            yield waiting
        waiting = (layer,) if isinstance(layer, Conv) else ()
        if not waiting:
            yield (layer,)
    if waiting:
        yield waiting
