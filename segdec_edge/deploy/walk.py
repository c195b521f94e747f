"""Rebuild a network layer by layer, each new one fitted behind those that are new already. Knows no way to fit one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from segdec_edge.deploy.network import Conv, Layer, Network, Norm
from segdec_edge.deploy.torch_network import planes_of, run, standardised
from segdec_edge.types import Pixels

States: TypeAlias = list[Tensor]
"""What one layer gets or gives, one (1, C, H, W) for each picture."""
Fit: TypeAlias = Callable[[tuple[Layer, ...], States, States], tuple[Layer, ...]]
"""(old layers, what the new ones get, what the old network has behind the old ones) → new layers."""
Progress: TypeAlias = Callable[[str], None]


def rebuilt(network: Network, start: Network, pixels: Pixels, fit: Fit, progress: Progress | None = None) -> Network:
    """`start` with `fit` applied to every convolution (with the norm behind it) of `network`, first to last.

    start: as network, but for its standardisation. pixels (N, H, W, C) uint8, training pictures. The targets come from
    `network`, the inputs from what is new already: each layer makes up for what the ones before it lost.
    """
    with torch.inference_mode():
        planes = [planes_of(one[None]) for one in pixels]
        wanted = [standardised(one, network.standardise) for one in planes]
        given = [standardised(one, start.standardise) for one in planes]
        trunk, given, wanted = _part(network.trunk, given, wanted, fit, progress)
        segmentation, logits, wanted_logits = _part(network.segmentation, given, wanted, fit, progress)
        both, wanted_both = _joined(given, logits), _joined(wanted, wanted_logits)
        decision, _, _ = _part(network.decision, both, wanted_both, fit, progress)
    return replace(start, trunk=trunk, segmentation=segmentation, decision=decision)


def _part(
    layers: Sequence[Layer], given: States, wanted: States, fit: Fit, progress: Progress | None
) -> tuple[tuple[Layer, ...], States, States]:
    new: list[Layer] = []
    for unit in units(layers):
        wanted = [run(unit, one) for one in wanted]
        replaced = unit
        if isinstance(unit[0], Conv):
            if progress is not None:
                progress(unit[0].name)
            replaced = fit(unit, given, wanted)
        given = [run(replaced, one) for one in given]
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


def _joined(volumes: States, logits: States) -> States:
    return [torch.cat(pair, dim=1) for pair in zip(volumes, logits, strict=True)]
