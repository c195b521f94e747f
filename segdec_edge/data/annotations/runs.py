"""Run-length codes of masks, of COCO, CVAT and Label Studio. Knows no file and no picture.

Own decoders: pycocotools 2.0.11 gives back uninitialised memory where the runs sum to less than the picture, and reads
on past the end of a cut string; Label Studio's decoder ships only with its whole SDK.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segdec_edge.errors import MaskError
from segdec_edge.types import BoolMask

_AGAIN = "Export it again."


def coco_counts(text: str) -> list[int]:
    """The run lengths in COCO's compressed string: six bits a character, signed, from the third on as differences.

    Raises MaskError on other characters and where the last number is cut.
    Source: the reference implementation, cocodataset/cocoapi, maskApi.c, rleFrString.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise MaskError(f"run lengths hold the character {character!r}, wanted COCO's compressed form. {_AGAIN}")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise MaskError(f"run lengths end in the middle of a number. {_AGAIN}")
    return counts


def alternating(counts: Sequence[int], pixels: int) -> BoolMask:
    """Runs of background and defect in turn, background first (it may be 0), as (pixels,). Raises MaskError."""
    if any(count < 0 for count in counts):
        raise MaskError(f"a run length is {min(counts)}, wanted none below 0. {_AGAIN}")
    if sum(counts) != pixels:
        raise MaskError(f"run lengths sum to {sum(counts)}, wanted {pixels}, the pixels of the mask. {_AGAIN}")
    return np.repeat(np.arange(len(counts)) % 2 == 1, np.asarray(counts, np.int64))


def brush_alpha(code: bytes, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """How opaque Label Studio's brush is at each pixel, (H, W) uint8: the last of the four channels it stores.

    A header (32 bits: how many values; 5: bits a value, less 1; 4 × 4: the lengths' sizes, less 1), then blocks: one
    bit (1: one value repeated, 0: all different), two bits (which size), the length less 1, the value or values.
    Raises MaskError where the code ends early or is of another size.
    Source: thi.ng/umbrella, rle-pack, whose format Label Studio stores.
    """
    bits = _Bits(code)
    count, value_bits = bits.number(32), bits.number(5) + 1
    length_bits = [bits.number(4) + 1 for _ in range(4)]
    height, width = size_hw
    if count != 4 * height * width or value_bits > 8:
        raise MaskError(
            f"brush of {count} values, wanted {4 * height * width}: 4 for each pixel of the picture. {_AGAIN}"
        )
    values = np.zeros(count, np.uint8)
    done = 0
    while done < count:
        repeated = bits.number(1)
        length = 1 + bits.number(length_bits[bits.number(2)])
        if done + length > count:
            raise MaskError(f"brush holds more than its {count} values. {_AGAIN}")
        values[done : done + length] = bits.number(value_bits) if repeated else bits.numbers(length, value_bits)
        done += length
    return values.reshape(height, width, 4)[:, :, 3]


class _Bits:
    """Reads numbers from bytes, highest bit first. Raises MaskError at their end."""

    def __init__(self, code: bytes) -> None:
        self._bits = np.unpackbits(np.frombuffer(code, np.uint8))
        self._at = 0

    def number(self, size: int) -> int:
        return int("".join(map(str, self._take(size).tolist())), 2)

    def numbers(self, count: int, size: int) -> NDArray[np.int64]:
        weights = 1 << np.arange(size, dtype=np.int64)[::-1]
        return np.asarray(self._take(count * size).reshape(count, size) @ weights, np.int64)

    def _take(self, size: int) -> NDArray[np.uint8]:
        taken = self._bits[self._at : self._at + size]
        if len(taken) < size:
            raise MaskError(f"brush ends early, after {len(self._bits) // 8} bytes. {_AGAIN}")
        self._at += size
        return taken
