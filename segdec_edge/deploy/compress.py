"""Convolutions factorised by what they give out: k×k to r channels, then 1×1 to all of them.

The weights of the 15×15 layer are full rank, its outputs are not. So each convolution is fitted to the old network's
outputs by reduced-rank regression on training pictures, behind the layers that are factorised already: what they lost
is made up for as well as the picture allows. Source of the idea: Zhang et al. 2015, Accelerating very deep
convolutional networks for classification and detection (asymmetric reconstruction); ranks as there, greedily.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segdec_edge.deploy.attention import at_size_of, attention_of
from segdec_edge.deploy.network import Conv, Layer, Network, Norm, Relu, float32, operations
from segdec_edge.deploy.torch_network import planes_of, run, standardised
from segdec_edge.deploy.walk import Progress, States, rebuilt
from segdec_edge.errors import BundleError
from segdec_edge.types import Pixels

BLOCK = 16
"""Channels that INT8 convolutions compute together, on CPUs with AVX-512 as on tensor cores: 18 take as long as 32."""
_RIDGE = 1e-6
"""Of the mean variance: keeps channels that never move from blowing up the regression."""


@dataclass(frozen=True)
class Spectrum:
    """energies: variances of a layer's principal outputs, largest first, each output weighted by what it moves behind
    it; cost_each: operations for each rank kept, whole: operations of the layer as it is."""

    energies: NDArray[np.float64]
    cost_each: int
    whole: int


def require_folded(network: Network) -> None:
    """Raise BundleError where the trunk still has norms: a factor's norm could not be fitted.

    Those of the segmentation and the decision part may stay: the convolutions before them are left whole.
    """
    kept = [layer.name for layer in network.trunk if isinstance(layer, Norm)]
    if kept:
        raise BundleError(f"{kept[0]} is not folded, wanted a folded bundle. Make one: segdec fold BUNDLE")


def spectra(
    network: Network, pixels: Pixels, size_hw: tuple[int, int], progress: Progress | None = None
) -> dict[str, Spectrum]:
    """What each convolution's outputs can be reduced to, by name. pixels (N, H, W, C) uint8, training pictures."""
    require_folded(network)
    attention = attention_of(network, pixels)
    costs, weights, found = operations(network, size_hw), importances(network), dict[str, Spectrum]()

    def look(unit: tuple[Layer, ...], given: States, wanted: States) -> tuple[Layer, ...]:
        conv = unit[0]
        if len(unit) > 1 or not isinstance(conv, Conv):
            return unit
        outputs, inputs = conv.weight.shape[0], conv.weight[0].size
        moments = _Moments.of(wanted, wanted, attention)
        scale = weights[conv.name]
        energies = np.linalg.eigvalsh(moments.covariance_xx() * np.outer(scale, scale))[::-1].clip(min=0)
        whole = costs[conv.name]
        found[conv.name] = Spectrum(energies, whole * (inputs + outputs) // (inputs * outputs), whole)
        return unit

    rebuilt(network, network, pixels, look, progress)
    return found


def importances(network: Network) -> dict[str, NDArray[np.float64]]:
    """How much one unit of each output of a convolution moves the outputs of what takes it, (out,) by name."""
    found = {}
    parts = (network.trunk, network.segmentation, network.decision)
    convs = [[layer for layer in part if isinstance(layer, Conv)] for part in parts]
    for chain in convs:
        for conv, taker in pairwise(chain):
            found[conv.name] = _moved(taker)
    trunk, segmentation, decision = convs
    both = _moved(decision[0])
    found[trunk[-1].name] = np.hypot(_moved(segmentation[0]), both[: len(both) - 1])
    for last in (segmentation[-1], decision[-1]):
        found[last.name] = np.ones(last.weight.shape[0])
    return found


def _moved(taker: Conv) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.square(taker.weight.astype(np.float64)).sum(axis=(0, 2, 3))))


def choose_ranks(found: Mapping[str, Spectrum], share: float) -> dict[str, int]:
    """Ranks, for layers where that pays, with which all of them together cost at most `share` of the operations.

    Greedy: the step goes whose loss, as a share of what is left of its layer, is smallest for each operation saved.
    A layer that is better left whole has no rank. Ranks fill blocks of 16 channels, or of a quarter of a layer
    with fewer than 32; one block is the least.
    """
    ranks = {name: len(one.energies) for name, one in found.items()}
    steps = {name: _best_step(one, ranks[name]) for name, one in found.items()}
    budget = share * sum(one.whole for one in found.values())
    while sum(_cost(found[name], rank) for name, rank in ranks.items()) > budget:
        name = min(steps, key=lambda one: steps[one][0])
        if steps[name][0] == np.inf:
            break
        ranks[name] = steps[name][1]
        steps[name] = _best_step(found[name], ranks[name])
    return {name: rank for name, rank in ranks.items() if rank < len(found[name].energies)}


def _cost(one: Spectrum, rank: int) -> int:
    return one.whole if rank == len(one.energies) else rank * one.cost_each


def _best_step(one: Spectrum, rank: int) -> tuple[float, int]:
    """Loss for each operation saved, and the rank of the best step down; inf where there is none."""
    kept = np.cumsum(one.energies)
    lower = _full_blocks(len(kept), rank)
    saved = _cost(one, rank) - lower * one.cost_each
    able = (saved > 0) & (kept[lower - 1] > 0)
    if not able.any():
        return np.inf, rank
    losses = np.log(kept[rank - 1] / kept[lower[able] - 1]) / saved[able]
    best = int(np.argmin(losses))
    return float(losses[best]), int(lower[able][best])


def _full_blocks(outputs: int, rank: int) -> NDArray[np.int64]:
    """The ranks below `rank` that leave no part of a block empty, smallest first."""
    block = _block(outputs)
    return np.arange(block, rank, block)


def _block(outputs: int) -> int:
    return BLOCK if outputs >= 2 * BLOCK else max(1, outputs // 4)


def factorised(network: Network, pixels: Pixels, ranks: Mapping[str, int], progress: Progress | None = None) -> Network:
    """The network with the named convolutions at these ranks, the others refitted behind them.

    pixels (N, H, W, C) uint8, training pictures.
    """
    weights, attention = importances(network), attention_of(network, pixels)

    def fit(unit: tuple[Layer, ...], given: States, wanted: States) -> tuple[Layer, ...]:
        conv = unit[0]
        if not isinstance(conv, Conv) or conv.name not in ranks:
            return unit
        moments = _Moments.of(given.behind([conv]), wanted, attention)
        return _factors(conv, moments, weights[conv.name], ranks[conv.name])

    return rebuilt(network, network, pixels, fit, progress)


def without_dead(network: Network, pixels: Pixels) -> Network:
    """The network without channels that are zero behind their ReLU on every pixel of every picture.

    pixels (N, H, W, C) uint8, training pictures. A channel that is zero adds nothing to what takes it: no bias moves.
    """
    trunk, alive = list(network.trunk), _alive(network, pixels)
    convs = [index for index, layer in enumerate(trunk) if isinstance(layer, Conv)]
    for index, taker in pairwise(convs):
        if index in alive and alive[index].any():
            trunk[index] = _outputs(trunk[index], alive[index])
            trunk[taker] = _inputs(trunk[taker], alive[index])
    last = convs[-1]
    if last not in alive or not alive[last].any():
        return replace(network, trunk=tuple(trunk))
    kept = alive[last]
    trunk[last] = _outputs(trunk[last], kept)
    (first, *segmentation), decision = network.segmentation, list(network.decision)
    taker = next(index for index, layer in enumerate(decision) if isinstance(layer, Conv))
    decision[taker] = _inputs(decision[taker], np.append(kept, True))
    return replace(
        network,
        trunk=tuple(trunk),
        segmentation=(_inputs(first, kept), *segmentation),
        decision=tuple(decision),
    )


def _filling_blocks(alive: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """As many dead channels stay as fill the last block: a part of one takes as long as the whole."""
    kept: NDArray[np.bool_] = alive.copy()
    short = -int(alive.sum()) % _block(len(alive))
    kept[np.flatnonzero(~alive)[:short]] = True
    return kept


def _alive(network: Network, pixels: Pixels) -> dict[int, NDArray[np.bool_]]:
    """Which outputs of each convolution of the trunk are ever above zero behind their ReLU, or stay to fill a block; by
    the layer's index."""
    alive: dict[int, NDArray[np.bool_]] = {}
    with torch.inference_mode():
        for one in pixels:
            x = standardised(planes_of(one[None]), network.standardise)
            for index, layer in enumerate(network.trunk):
                x = run([layer], x)
                if isinstance(layer, Relu) and isinstance(network.trunk[index - 1], Conv):
                    alive[index - 1] = alive.get(index - 1, False) | (x.amax(dim=(0, 2, 3)).numpy() > 0)
    return {index: _filling_blocks(found) for index, found in alive.items()}


def _outputs(conv: Layer, kept: NDArray[np.bool_]) -> Conv:
    assert isinstance(conv, Conv)
    return replace(conv, weight=conv.weight[kept], bias=None if conv.bias is None else conv.bias[kept])


def _inputs(conv: Layer, kept: NDArray[np.bool_]) -> Conv:
    assert isinstance(conv, Conv)
    return replace(conv, weight=float32(conv.weight[:, kept]))


def _factors(conv: Conv, moments: _Moments, importance: NDArray[np.float64], rank: int) -> tuple[Conv, Conv]:
    """Reduced-rank regression of what is wanted on what the convolution gives behind the new layers."""
    scale = np.maximum(importance, 1e-6 * importance.max())
    xx, xy = moments.covariance_xx(), moments.covariance_xy() * scale
    ridge = _RIDGE * np.trace(xx) / len(xx) * np.eye(len(xx))
    line = np.linalg.solve(xx + ridge, xy)
    _, vectors = np.linalg.eigh(line.T @ xx @ line)
    main = vectors[:, ::-1][:, :rank]
    inner = (line @ main).T
    first = np.tensordot(inner, conv.weight, axes=1)
    outer = main / scale[:, None]
    bias = moments.mean_y - outer @ (inner @ moments.mean_x)
    if conv.bias is not None:  # the first factor has none: what the old bias added lies in mean_x
        bias += outer @ (inner @ conv.bias)
    return (
        Conv(f"{conv.name}.a", float32(first)),
        Conv(f"{conv.name}.b", float32(outer[:, :, None, None]), float32(bias)),
    )


@dataclass(frozen=True)
class _Moments:
    """Weighted means and second moments of x and y over all pictures and pixels, in float64."""

    mean_x: NDArray[np.float64]
    mean_y: NDArray[np.float64]
    xx: NDArray[np.float64]
    xy: NDArray[np.float64]

    @staticmethod
    def of(xs: Iterable[Tensor], ys: Iterable[Tensor], attention: Sequence[Tensor]) -> _Moments:
        total, sums = 0.0, [torch.zeros(1, dtype=torch.float64) for _ in range(4)]
        for x, y, weights in zip(xs, ys, attention, strict=True):
            each = at_size_of(weights, x).double()
            rows_x, rows_y = (one[0].flatten(1).double() for one in (x, y))
            weighted = rows_x * each
            total += float(each.sum())
            new = weighted.sum(1), rows_y @ each, weighted @ rows_x.T, weighted @ rows_y.T
            sums = [already + one for already, one in zip(sums, new, strict=True)]
        return _Moments(*(one.numpy() / total for one in sums))

    def covariance_xx(self) -> NDArray[np.float64]:
        return np.asarray(self.xx - np.outer(self.mean_x, self.mean_x))

    def covariance_xy(self) -> NDArray[np.float64]:
        return np.asarray(self.xy - np.outer(self.mean_x, self.mean_y))
