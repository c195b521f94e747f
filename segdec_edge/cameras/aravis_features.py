"""What a GigE or USB3 Vision device is and offers, read and not changed. Takes no pictures.

A device that another program uses can be read all the same; it stays with that program.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from segdec_edge.cameras.aravis_device import find, opening_name
from segdec_edge.cameras.aravis_library import AravisFailure, Library, library
from segdec_edge.cameras.aravis_settings import region_of
from segdec_edge.errors import CameraLost

_ABSENT = "-"


def features(device: str | None) -> list[tuple[str, str]]:
    """Name and value of what matters to station.toml, in its words; "-" where the device does not have it.

    device: id, serial number or address, None for the only one. Raises CameraLost where it does not answer.
    """
    source, found = library(), find(device)
    try:
        camera: int = source.ask("arv_camera_new", opening_name(found))
    except AravisFailure as failure:
        raise CameraLost(f"{found.device}: cannot be read ({failure}). Check power and cable.") from failure
    try:
        rows = {"device": lambda: found.device, "address": lambda: found.address, **_rows(source, camera)}
        return [(name, _read(value)) for name, value in rows.items()]
    finally:
        source.call("g_object_unref", camera)


def _rows(source: Library, camera: int) -> dict[str, Callable[[], str]]:
    def text(function: str) -> Callable[[], str]:
        return lambda: (source.ask(function, camera) or b"").decode(errors="replace")

    def names(function: str) -> Callable[[], str]:
        return lambda: ", ".join(source.names(function, camera))

    return {
        "vendor": text("arv_camera_get_vendor_name"),
        "model": text("arv_camera_get_model_name"),
        "serial": text("arv_camera_get_device_serial_number"),
        "sensor": lambda: _sensor(source, camera),
        "region_xywh": lambda: str(list(region_of(source, camera))),
        "pixel_format": text("arv_camera_get_pixel_format_as_string"),
        "pixel formats": names("arv_camera_dup_available_pixel_formats_as_strings"),
        "exposure_us": lambda: _ranged(source, camera, "exposure_time"),
        "gain": lambda: _ranged(source, camera, "gain"),
        "rate_hz": lambda: _ranged(source, camera, "frame_rate"),
        "trigger sources": names("arv_camera_dup_available_trigger_sources"),
        "packet_size": lambda: str(source.ask("arv_camera_gv_get_packet_size", camera)),
    }


def _read(value: Callable[[], str]) -> str:
    try:
        return value() or _ABSENT
    except AravisFailure:
        return _ABSENT


def _sensor(source: Library, camera: int) -> str:
    width, height = ctypes.c_int(), ctypes.c_int()
    source.ask("arv_camera_get_sensor_size", camera, ctypes.byref(width), ctypes.byref(height))
    return f"{width.value}x{height.value}"


def _ranged(source: Library, camera: int, feature: str) -> str:
    if not source.ask(f"arv_camera_is_{feature}_available", camera):
        return _ABSENT
    low, high = ctypes.c_double(), ctypes.c_double()
    source.ask(f"arv_camera_get_{feature}_bounds", camera, ctypes.byref(low), ctypes.byref(high))
    return f"{source.ask(f'arv_camera_get_{feature}', camera):g} ({low.value:g} to {high.value:g})"
