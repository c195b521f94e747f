"""Which NVIDIA GPU is here, and pictures for its calibration: asked of the driver itself, because a build needs
neither CUDA's toolkit nor pycuda. Inference is runtime.cuda's."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from types import TracebackType

from segdec_edge.errors import BackendError
from segdec_edge.types import Pixels

_DRIVER = "libcuda.so.1"
_MULTIPROCESSORS, _INTEGRATED, _MAJOR, _MINOR = 16, 18, 75, 76
"""CUdevice_attribute in cuda.h."""


@dataclass(frozen=True)
class Gpu:
    """name as the driver writes it: all Orin modules are called Orin, so the multiprocessors tell them apart.

    integrated: it shares the machine's memory, as on a Jetson.
    """

    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    integrated: bool = False


def current_gpu(index: int = 0, driver: str = _DRIVER) -> Gpu | None:
    """The GPU of that number, None where there is no driver or no such GPU."""
    try:
        cuda = ctypes.CDLL(driver)
    except OSError:
        return None
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), index) or cuda.cuDeviceGetName(name, 256, device):
        return None
    values = []
    for attribute in (_MAJOR, _MINOR, _MULTIPROCESSORS, _INTEGRATED):
        value = ctypes.c_int()
        if cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
        values.append(value.value)
    return Gpu(name.value.decode(errors="replace"), (values[0], values[1]), values[2], bool(values[3]))


class Upload:
    """One place in the GPU's memory, as a context manager; calling it copies pictures there and gives its address.

    The address stays valid until the next call. Raises BackendError where the driver refuses.
    """

    def __init__(self, index: int = 0, driver: str = _DRIVER) -> None:
        try:
            self._cuda = ctypes.CDLL(driver)
        except OSError as error:
            raise BackendError(f"no NVIDIA driver here ({error}), wanted one to calibrate. Install it.") from error
        self._device, self._context = ctypes.c_int(), ctypes.c_void_p()
        self._index, self._address, self._size = index, ctypes.c_uint64(), 0

    def __enter__(self) -> Upload:
        self._do("cuInit", 0)
        self._do("cuDeviceGet", ctypes.byref(self._device), self._index)
        self._do("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self._do("cuCtxPushCurrent_v2", self._context)
        return self

    def __call__(self, pixels: Pixels) -> int:
        """pixels contiguous, of any shape."""
        if pixels.nbytes > self._size:
            self._free()
            self._do("cuMemAlloc_v2", ctypes.byref(self._address), ctypes.c_size_t(pixels.nbytes))
            self._size = pixels.nbytes
        source = ctypes.c_void_p(pixels.ctypes.data)
        self._do("cuMemcpyHtoD_v2", self._address, source, ctypes.c_size_t(pixels.nbytes))
        return self._address.value

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._free()
        self._do("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
        self._do("cuDevicePrimaryCtxRelease_v2", self._device)

    def _free(self) -> None:
        if self._size:
            self._do("cuMemFree_v2", self._address)
            self._size = 0

    def _do(self, name: str, *arguments: object) -> None:
        status = getattr(self._cuda, name)(*arguments)
        if status:
            raise BackendError(f"{name}: the NVIDIA driver gave error {status}. Is the GPU busy or its memory full?")
