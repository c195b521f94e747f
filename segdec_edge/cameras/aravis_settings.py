"""What [camera] asks of a GigE or USB3 Vision device: set, read back, refused on any difference. Knows no frames.

May be rounded by the device: exposure_us by 2 % or 1 µs, gain by 2 % or 0.05, rate_hz by 2 %; everything else is exact.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from segdec_edge.cameras.aravis_library import AravisFailure, Library
from segdec_edge.config.camera import AravisConfig
from segdec_edge.errors import CameraError

_AUTO_OFF = 0
_CONTINUOUS = 0
_ADJUST_NEVER = 0


@dataclass(frozen=True)
class _Setting:
    """One wish: how to set it, how to read it back, and how far what was read may be from what was wanted."""

    name: str
    wanted: Any
    set: Callable[[], object]
    get: Callable[[], Any]
    tolerance: float = 0.0

    def complaint(self) -> str:
        """What the device made of it; empty where it took it."""
        try:
            self.set()
            got = self.get()
        except AravisFailure as failure:
            return f"{self.name} {_text(self.wanted)} ({failure})"
        same = abs(got - self.wanted) <= self.tolerance if self.tolerance else got == self.wanted
        return "" if same else f"{self.name} {_text(self.wanted)}, got {_text(got)}"


def apply(library: Library, camera: int, name: str, config: AravisConfig) -> None:
    """Bring an open camera to what the table asks for. Raises CameraError with everything that it did not take."""
    settings = (*_picture(library, camera, config), *_light(library, camera, config), *_timing(library, camera, config))
    if library.call("arv_camera_is_gv_device", camera):
        settings = (*settings, *_network(library, camera, config))
    refused = [complaint for setting in settings if (complaint := setting.complaint())]
    if refused:
        raise CameraError(
            f"{name}: the device did not take what was asked: {'; '.join(refused)}."
            f" Ask for what it offers: segdec camera show {name}"
        )


def region_of(library: Library, camera: int) -> tuple[int, int, int, int]:
    """(x, y, width, height) in pixels of the sensor. Raises AravisFailure."""
    values = [ctypes.c_int() for _ in range(4)]
    library.ask("arv_camera_get_region", camera, *map(ctypes.byref, values))
    x, y, width, height = (value.value for value in values)
    return x, y, width, height


def _picture(library: Library, camera: int, config: AravisConfig) -> Iterator[_Setting]:
    wanted = config.pixel_format
    yield _Setting(
        "pixel_format",
        wanted,
        lambda: library.ask("arv_camera_set_pixel_format_from_string", camera, wanted.encode()),
        lambda: _string(library.ask("arv_camera_get_pixel_format_as_string", camera)),
    )
    if (region := config.region_xywh) is not None:
        yield _Setting(
            "region_xywh",
            region,
            lambda: library.ask("arv_camera_set_region", camera, *region),
            lambda: region_of(library, camera),
        )


def _light(library: Library, camera: int, config: AravisConfig) -> Iterator[_Setting]:
    if (exposure_us := config.exposure_us) is not None:
        yield _Setting(
            "exposure_us",
            exposure_us,
            lambda: _set_manually(library, camera, "exposure_auto", "exposure_time", exposure_us),
            lambda: library.ask("arv_camera_get_exposure_time", camera),
            max(0.02 * exposure_us, 1.0),
        )
    if (gain := config.gain) is not None:
        yield _Setting(
            "gain",
            gain,
            lambda: _set_manually(library, camera, "gain_auto", "gain", gain),
            lambda: library.ask("arv_camera_get_gain", camera),
            max(0.02 * abs(gain), 0.05),
        )


def _timing(library: Library, camera: int, config: AravisConfig) -> Iterator[_Setting]:
    library.ask("arv_camera_set_acquisition_mode", camera, _CONTINUOUS)

    def of(feature: bytes) -> str:
        return _string(library.ask("arv_camera_get_string", camera, feature))

    if config.trigger == "free":
        if library.ask("arv_camera_is_feature_available", camera, b"TriggerMode"):
            clear = lambda: library.ask("arv_camera_clear_triggers", camera)  # noqa: E731
            yield _Setting("trigger mode", "Off", clear, lambda: of(b"TriggerMode"))
    else:
        source = "Software" if config.trigger == "software" else config.trigger_line
        begin = lambda: library.ask("arv_camera_set_trigger", camera, source.encode())  # noqa: E731
        yield _Setting("trigger source", source, begin, lambda: of(b"TriggerSource"))
        yield _Setting("trigger mode", "On", lambda: None, lambda: of(b"TriggerMode"))
    if (rate_hz := config.rate_hz) is not None:
        yield _Setting(
            "rate_hz",
            rate_hz,
            lambda: library.ask("arv_camera_set_frame_rate", camera, rate_hz),
            lambda: library.ask("arv_camera_get_frame_rate", camera),
            0.02 * rate_hz,
        )


def _network(library: Library, camera: int, config: AravisConfig) -> Iterator[_Setting]:
    if (size := config.packet_size) is None:
        yield _Setting("packet size", True, lambda: None, lambda: _pick_packet_size(library, camera))
        return
    library.call("arv_camera_gv_set_packet_size_adjustment", camera, _ADJUST_NEVER)
    yield _Setting(
        "packet_size",
        size,
        lambda: library.ask("arv_camera_gv_set_packet_size", camera, size),
        lambda: library.ask("arv_camera_gv_get_packet_size", camera),
    )


def _pick_packet_size(library: Library, camera: int) -> bool:
    """The largest packets that pass; a device that sends no test packets keeps its own size, at least 576 bytes."""
    try:
        return bool(library.ask("arv_camera_gv_auto_packet_size", camera) > 0)
    except AravisFailure:
        return bool(library.ask("arv_camera_gv_get_packet_size", camera) > 0)


def _set_manually(library: Library, camera: int, automatic: str, feature: str, value: float) -> None:
    if library.ask(f"arv_camera_is_{automatic}_available", camera):
        library.ask(f"arv_camera_set_{feature}_auto", camera, _AUTO_OFF)
    library.ask(f"arv_camera_set_{feature}", camera, value)


def _string(text: bytes | None) -> str:
    return (text or b"").decode(errors="replace")


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
