"""An NVIDIA GPU's clocks, temperature, memory and energy, asked of libnvidia-ml, which comes with the driver.

A Jetson's libnvidia-ml does not tell them all: each that is refused is left out.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

_LIBRARY = "libnvidia-ml.so.1"
_GPU, _GRAPHICS_CLOCK, _MEMORY_CLOCK = 0, 0, 2
"""nvmlTemperatureSensors_t, nvmlClockType_t in nvml.h."""
_REASONS = {
    0x4: "power limit of the software",
    0x8: "hardware slowdown",
    0x20: "temperature (software)",
    0x40: "temperature (hardware)",
    0x80: "power brake",
}
"""nvmlClocksThrottleReason bits in nvml.h that slow the clocks down; idle and application settings do not count."""


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_uint64), ("free", ctypes.c_uint64), ("used", ctypes.c_uint64))


class Nvml:
    """The first GPU. library: a loaded libnvidia-ml."""

    def __init__(self, library: Any) -> None:
        self._library, self._device = library, ctypes.c_void_p()
        self.usable = not library.nvmlInit_v2() and not library.nvmlDeviceGetHandleByIndex_v2(
            0, ctypes.byref(self._device)
        )

    def joules(self) -> float | None:
        """Since the driver was loaded."""
        found = self._asked("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_uint64())
        return None if found is None else found / 1000

    def used_mib(self) -> float | None:
        """Memory in use by all processes."""
        memory = _Memory()
        if not self.usable or self._library.nvmlDeviceGetMemoryInfo(self._device, ctypes.byref(memory)):
            return None
        return float(memory.used) / 2**20

    def state(self) -> Mapping[str, float | str]:
        watts = self._asked("nvmlDeviceGetPowerUsage", ctypes.c_uint())
        reasons = self._asked("nvmlDeviceGetCurrentClocksThrottleReasons", ctypes.c_ulonglong()) or 0
        found: dict[str, float | str | None] = {
            "clock_mhz": self._asked("nvmlDeviceGetClockInfo", ctypes.c_uint(), _GRAPHICS_CLOCK),
            "memory_clock_mhz": self._asked("nvmlDeviceGetClockInfo", ctypes.c_uint(), _MEMORY_CLOCK),
            "temperature_c": self._asked("nvmlDeviceGetTemperature", ctypes.c_uint(), _GPU),
            "watts": None if watts is None else watts / 1000,
            "throttled": ", ".join(words for bit, words in _REASONS.items() if int(reasons) & bit) or None,
        }
        return {name: value for name, value in found.items() if value is not None}

    def _asked(self, name: str, value: Any, *given: int) -> float | None:
        call = getattr(self._library, name, None)
        if not self.usable or call is None or call(self._device, *given, ctypes.byref(value)):
            return None
        return float(value.value)


def open_nvml(library: str = _LIBRARY) -> Nvml | None:
    """None where there is no driver or no GPU."""
    try:
        found = Nvml(ctypes.CDLL(library))
    except OSError:
        return None
    return found if found.usable else None


def gpu_state() -> Mapping[str, float | str] | None:
    found = open_nvml()
    return None if found is None else found.state()
