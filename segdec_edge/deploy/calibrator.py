"""INT8 ranges as TensorRT's own builder takes them, for DLA and 8.6; elsewhere they are in the graph (Q/DQ nodes).

Knows no data set: whoever builds brings the pictures of the calibration manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segdec_edge.errors import EngineError
from segdec_edge.files import make_folder, write_atomic
from segdec_edge.runtime.tensorrt_api import TensorRt
from segdec_edge.types import Pixels

if TYPE_CHECKING:
    import tensorrt as trt

MIN_PICTURES = 16


@dataclass(frozen=True)
class Calibration:
    """pixels: batches (N, H, W, C) uint8 of training pictures; sha256: of the manifest that names them.

    caches: folder for what came out; upload: copies a batch to the GPU and gives its address there, which stays valid
    until the next call.
    """

    pixels: Iterable[Pixels]
    sha256: str
    caches: Path
    upload: Callable[[Pixels], int]

    def cache_of(self, tensorrt: TensorRt, onnx_sha256: str) -> Path:
        """A cache belongs to one set of weights, one manifest and one version: all three are in its name."""
        version = ".".join(str(part) for part in tensorrt.version)
        return self.caches / f"{onnx_sha256[:12]}-{self.sha256[:12]}-{tensorrt.name}-{version}.cache"


def entropy_calibrator(
    tensorrt: TensorRt, calibration: Calibration, onnx_sha256: str, batch: int
) -> trt.IInt8EntropyCalibrator2:
    """The calibrator of tensorrt up to 10.x, with `failure`: the error that ended it, because TensorRT takes an
    exception in there for the end of the pictures and calibrates on what it had until then.

    batch: pictures of one call, the best of the profile; what is left over is not used.
    """
    cache = calibration.cache_of(tensorrt, onnx_sha256)

    class Calibrator(tensorrt.module.IInt8EntropyCalibrator2):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.failure: BaseException | None = None
            self._batches = _rebatched(calibration.pixels, batch)
            self._used = 0

        def get_batch_size(self) -> int:
            return batch

        def get_batch(self, names: list[str]) -> list[int] | None:
            try:
                pixels = next(self._batches, None)
                if pixels is None:
                    self._require_enough()
                    return None
                self._used += 1
                return [calibration.upload(np.ascontiguousarray(pixels))]
            except BaseException as error:
                self.failure = error
                raise

        def read_calibration_cache(self) -> bytes | None:
            return cache.read_bytes() if cache.exists() else None

        def write_calibration_cache(self, content: memoryview) -> None:
            try:
                make_folder(cache.parent)
                write_atomic(cache, bytes(content))
            except BaseException as error:
                self.failure = error
                raise

        def _require_enough(self) -> None:
            if self._used * batch < MIN_PICTURES:
                raise EngineError(
                    f"{self._used * batch} pictures to calibrate on, wanted at least {MIN_PICTURES}."
                    " Put more training pictures into the manifest."
                )

    calibrator: trt.IInt8EntropyCalibrator2 = Calibrator()
    return calibrator


def _rebatched(batches: Iterable[Pixels], size: int) -> Iterator[Pixels]:
    """The same pictures, `size` at a time; an incomplete last batch is left out."""
    waiting: list[Pixels] = []
    for pixels in batches:
        waiting.extend(pixels)
        while len(waiting) >= size:
            yield np.stack(waiting[:size])
            waiting = waiting[size:]
