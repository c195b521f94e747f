"""The examples of a set: decoded once as far as memory allows, else again by workers ahead of the reader.

Knows no network and no sampler: whoever reads announces in which order.

Kept are the prepared pixels as they are, and the target of a masked picture compressed without loss: it costs a mask to
decode and a distance transform to make, and shrinks to about a hundredth. All other pictures share one target.
Workers are threads: OpenCV, zlib and hashlib leave the interpreter free while they work (benchmarks/streaming.py).
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from segdec_edge.data.paste import PackedShape, Shape, shape_of_mask
from segdec_edge.data.samples import Sample
from segdec_edge.data.targets import Example, Target, TargetRule, make_example, plain_target, with_targets
from segdec_edge.pictures import pixels_digest
from segdec_edge.types import BoolMask

_AHEAD_PER_WORKER = 4
Surveyed = Callable[[int, int], None]
"""Called with (pictures looked at, pictures in all)."""


class Feed(Protocol):
    """What training reads from: Examples, or a plain list of them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


@dataclass
class Memory:
    """Bytes that several Examples share; most_held is the highest held ever was."""

    limit: int
    held: int = 0
    most_held: int = 0

    def take(self, size: int, spare: int = 0) -> bool:
        """Whether `size` more fits below the limit with `spare` left; it is held then."""
        fits = self.held + size + spare <= self.limit
        if fits:
            self.grow(size)
        return fits

    def grow(self, size: int) -> None:
        self.held += size
        self.most_held = max(self.most_held, self.held)


@dataclass(frozen=True)
class _Read:
    """One example as a worker leaves it; packed and digests, of pixels and of mask, only where they were asked for."""

    example: Example
    packed: bytes | None
    digests: tuple[str, str] | None


class Examples:
    """Examples of samples by index, each always the same whether it was kept or read again. For one reading thread.

    What is kept stays: an epoch's order is random, and pushing one picture out for another would gain nothing. Where
    not all fit, those read first are kept, so survey reads defective ones first: every epoch uses all of them, but good
    ones by turns. memory counts what is kept and what workers have ready; it is passed only where not even one picture
    fits. Besides come the pictures as stored, while workers decode them. sizes: heights and widths as stored, of those
    read so far. mask_digests: of the masks as drawn, of those surveyed that have one.
    """

    def __init__(self, samples: Sequence[Sample], rule: TargetRule, memory: Memory, workers: int = 1) -> None:
        self.labels: BoolMask = np.array([sample.positive for sample in samples], np.bool_)
        self.masked: BoolMask = np.array([sample.positive and sample.has_mask for sample in samples], np.bool_)
        self._samples, self._rule, self._memory = samples, rule, memory
        self._plain = (plain_target(rule.size_hw),)
        self._eighth = self._plain[0][0].shape
        per_target = 2 * self._plain[0][0].nbytes
        self._size = rule.size_hw[0] * rule.size_hw[1] * rule.channels + per_target * (4 if rule.flips else 1)
        self._ahead = max(1, min(_AHEAD_PER_WORKER * workers, memory.limit // 4 // self._size))
        self._workers = ThreadPoolExecutor(workers, "examples") if workers else None
        self._kept: dict[int, Example] = {}
        self._packed: dict[int, bytes] = {}
        self._shapes: dict[int, PackedShape | None] = {}
        self._largest = 0
        self._digests: dict[int, str] = {}
        self.mask_digests: dict[int, str] = {}
        self.sizes: dict[int, tuple[int, int]] = {}
        self._coming: Iterator[int] = iter(())
        self._pending: deque[tuple[int, Future[_Read]]] = deque()

    def __enter__(self) -> Examples:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.announce(())
        if self._workers is not None:
            self._workers.shutdown(wait=True, cancel_futures=True)

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[Example]:
        return self.read(range(len(self)))

    def __getitem__(self, index: int) -> Example:
        """Raises PictureError or MaskError where it has to be read and cannot."""
        if self._pending and self._pending[0][0] == index:
            future = self._pending.popleft()[1]
            self._memory.held -= self._size
            read = future.result()
        elif (kept := self._kept.get(index)) is not None:
            return with_targets(kept, self._targets(index) or self._plain)
        else:
            read = self._load(index)
        self._keep(index, read)
        self._fill()
        return read.example

    @property
    def kept(self) -> int:
        """How many pictures need not be read again."""
        return len(self._kept)

    def shape(self, index: int) -> Shape | None:
        """The outline of this picture's defect; None where nobody drew one or it is too large to be cut out.

        Kept once made, in a few hundred bytes that memory does not count. Raises MaskError.
        """
        if index not in self._shapes:
            shape = shape_of_mask(self._samples[index].read_mask(), self._rule) if self.masked[index] else None
            self._shapes[index] = None if shape is None else shape.packed()
        packed = self._shapes[index]
        return None if packed is None else packed.unpacked()

    def read(self, order: Iterable[int]) -> Iterator[Example]:
        """The examples in an order, with workers ahead."""
        indices = list(order)
        self.announce(indices)
        return (self[index] for index in indices)

    def announce(self, order: Iterable[int]) -> None:
        """Say which examples will be asked for next, in order; asking for others is allowed, only slower."""
        for _, future in self._pending:
            future.cancel()
        self._memory.held -= self._size * len(self._pending)
        self._pending.clear()
        self._coming = iter([int(index) for index in order])
        self._fill()

    def survey(self, indices: Iterable[int], progress: Surveyed | None = None) -> dict[int, str]:
        """Read each once, defective ones first, keep what fits, and give each one's digest of pixels.

        Raises PictureError or MaskError on the first that cannot be read.
        """
        order = sorted({int(index) for index in indices}, key=lambda index: (not self.labels[index], index))
        self._digests = dict.fromkeys(order, "")
        for done, _ in enumerate(self.read(order), start=1):
            if progress is not None:
                progress(done, len(order))
        digests, self._digests = self._digests, {}
        return digests

    def _fill(self) -> None:
        """Let workers read on, as far ahead as memory allows."""
        while self._workers is not None and len(self._pending) < self._ahead:
            index = next((one for one in self._coming if one not in self._kept), None)
            if index is None:
                return
            self._memory.grow(self._size)
            self._pending.append((index, self._workers.submit(self._load, index)))

    def _load(self, index: int) -> _Read:
        """Called by workers: reads state that only the reading thread changes, and changes none."""
        sample = self._samples[index]
        known = self._targets(index) if sample.positive and sample.has_mask else self._plain
        example = make_example(sample, self._rule, known)
        digests = (pixels_digest(example.pixels), _mask_digest(sample)) if index in self._digests else None
        return _Read(example, None if known is not None else _pack(example), digests)

    def _keep(self, index: int, read: _Read) -> None:
        self.sizes[index] = read.example.source_hw
        if read.digests is not None:
            self._digests[index], of_mask = read.digests
            if of_mask:
                self.mask_digests[index] = of_mask
        window = self._size * (self._ahead - len(self._pending))
        if read.packed is not None and index not in self._packed and self._memory.take(len(read.packed), window):
            self._packed[index] = read.packed
            self._largest = max(self._largest, len(read.packed))
        if index in self._kept or (read.packed is not None and index not in self._packed):
            return
        # A target costs several times as much to make as its picture, and takes a hundredth: pictures leave it room.
        targets = self._largest * (int(self.masked.sum()) - len(self._packed))
        if self._memory.take(read.example.pixels.nbytes, window + targets):
            self._kept[index] = with_targets(read.example, self._plain)

    def _targets(self, index: int) -> tuple[Target, ...] | None:
        packed = self._packed.get(index)
        if packed is None:
            return None
        pairs = np.frombuffer(zlib.decompress(packed), np.float32).reshape(-1, 2, *self._eighth)
        return tuple((mask, weights) for mask, weights in pairs)


def _mask_digest(sample: Sample) -> str:
    """Of the file's marks, not of the weights made of them, which differ between machines in their last bits."""
    mask = sample.read_mask() if sample.positive and sample.has_mask else None
    return "" if mask is None else pixels_digest(np.packbits(mask, axis=1))


def _pack(example: Example) -> bytes:
    return zlib.compress(np.array(example.mirrored or ((example.mask, example.weights),)).tobytes(), 1)


def labels_of(examples: Feed) -> NDArray[np.bool_]:
    """Which examples are defective, (N,), without reading those that know it."""
    if isinstance(examples, Examples):
        return examples.labels
    return np.array([examples[index].positive for index in range(len(examples))], np.bool_)


def masked_of(examples: Feed) -> NDArray[np.int64]:
    """Indices of those whose defect somebody drew, without reading; none of a plain list, which knows no outlines."""
    return np.flatnonzero(examples.masked) if isinstance(examples, Examples) else np.zeros(0, np.int64)


def shape_of(examples: Feed, index: int) -> Shape | None:
    return examples.shape(index) if isinstance(examples, Examples) else None


def announce(examples: Feed, order: Iterable[int]) -> None:
    if isinstance(examples, Examples):
        examples.announce(order)
