"""libaravis-0.8 through ctypes: its functions with their types, and GError as CameraError. Knows no camera's settings.

ctypes lets other threads run during a call; several of these block for up to 3 s where a device no longer answers.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_int, c_int64, c_size_t, c_uint, c_uint16, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Any

from segdec_edge.errors import CameraError

NAME = "libaravis-0.8.so.0"

_P_DOUBLE, _P_INT, _P_UINT, _P_SIZE = POINTER(c_double), POINTER(c_int), POINTER(c_uint), POINTER(c_size_t)

# Result, then arguments. Booleans are C int. A `char *` result stays the library's own.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "arv_update_device_list": (None,),
    "arv_get_n_devices": (c_uint,),
    "arv_get_device_id": (c_char_p, c_uint),
    "arv_get_device_model": (c_char_p, c_uint),
    "arv_get_device_vendor": (c_char_p, c_uint),
    "arv_get_device_serial_nbr": (c_char_p, c_uint),
    "arv_get_device_address": (c_char_p, c_uint),
    "arv_get_device_protocol": (c_char_p, c_uint),
    "arv_camera_get_device": (c_void_p, c_void_p),
    "arv_camera_is_gv_device": (c_int, c_void_p),
    "arv_camera_gv_set_stream_options": (None, c_void_p, c_int),
    "arv_camera_gv_set_packet_size_adjustment": (None, c_void_p, c_int),
    "arv_gv_device_is_controller": (c_int, c_void_p),
    "arv_gv_stream_get_port": (c_uint16, c_void_p),
    "arv_stream_push_buffer": (None, c_void_p, c_void_p),
    "arv_stream_try_pop_buffer": (c_void_p, c_void_p),
    "arv_stream_timeout_pop_buffer": (c_void_p, c_void_p, c_uint64),
    "arv_buffer_new_allocate": (c_void_p, c_size_t),
    "arv_buffer_get_status": (c_int, c_void_p),
    "arv_buffer_get_payload_type": (c_int, c_void_p),
    "arv_buffer_get_data": (c_void_p, c_void_p, _P_SIZE),
    "arv_buffer_get_frame_id": (c_uint64, c_void_p),
    "arv_buffer_get_timestamp": (c_uint64, c_void_p),
    "arv_buffer_get_system_timestamp": (c_uint64, c_void_p),
    "arv_buffer_get_image_width": (c_int, c_void_p),
    "arv_buffer_get_image_height": (c_int, c_void_p),
    "arv_buffer_get_image_pixel_format": (c_uint32, c_void_p),
    "g_object_unref": (None, c_void_p),
    "g_error_free": (None, c_void_p),
    "g_free": (None, c_void_p),
}

# These take a GError ** after the arguments named here.
_FALLIBLE: dict[str, tuple[Any, ...]] = {
    "arv_camera_new": (c_void_p, c_char_p),
    "arv_camera_create_stream": (c_void_p, c_void_p, c_void_p, c_void_p),
    "arv_camera_start_acquisition": (None, c_void_p),
    "arv_camera_stop_acquisition": (None, c_void_p),
    "arv_camera_software_trigger": (None, c_void_p),
    "arv_camera_set_trigger": (None, c_void_p, c_char_p),
    "arv_camera_clear_triggers": (None, c_void_p),
    "arv_camera_set_acquisition_mode": (None, c_void_p, c_int),
    "arv_camera_get_payload": (c_uint, c_void_p),
    "arv_camera_set_pixel_format_from_string": (None, c_void_p, c_char_p),
    "arv_camera_get_pixel_format_as_string": (c_char_p, c_void_p),
    "arv_camera_get_pixel_format": (c_uint32, c_void_p),
    "arv_camera_set_region": (None, c_void_p, c_int, c_int, c_int, c_int),
    "arv_camera_get_region": (None, c_void_p, _P_INT, _P_INT, _P_INT, _P_INT),
    "arv_camera_get_sensor_size": (None, c_void_p, _P_INT, _P_INT),
    "arv_camera_is_exposure_auto_available": (c_int, c_void_p),
    "arv_camera_set_exposure_time_auto": (None, c_void_p, c_int),
    "arv_camera_is_exposure_time_available": (c_int, c_void_p),
    "arv_camera_set_exposure_time": (None, c_void_p, c_double),
    "arv_camera_get_exposure_time": (c_double, c_void_p),
    "arv_camera_get_exposure_time_bounds": (None, c_void_p, _P_DOUBLE, _P_DOUBLE),
    "arv_camera_is_gain_auto_available": (c_int, c_void_p),
    "arv_camera_set_gain_auto": (None, c_void_p, c_int),
    "arv_camera_is_gain_available": (c_int, c_void_p),
    "arv_camera_set_gain": (None, c_void_p, c_double),
    "arv_camera_get_gain": (c_double, c_void_p),
    "arv_camera_get_gain_bounds": (None, c_void_p, _P_DOUBLE, _P_DOUBLE),
    "arv_camera_is_frame_rate_available": (c_int, c_void_p),
    "arv_camera_set_frame_rate": (None, c_void_p, c_double),
    "arv_camera_get_frame_rate": (c_double, c_void_p),
    "arv_camera_get_frame_rate_bounds": (None, c_void_p, _P_DOUBLE, _P_DOUBLE),
    "arv_camera_gv_set_packet_size": (None, c_void_p, c_int),
    "arv_camera_gv_get_packet_size": (c_uint, c_void_p),
    "arv_camera_gv_auto_packet_size": (c_uint, c_void_p),
    "arv_camera_is_feature_available": (c_int, c_void_p, c_char_p),
    "arv_camera_get_string": (c_char_p, c_void_p, c_char_p),
    "arv_camera_get_integer": (c_int64, c_void_p, c_char_p),
    "arv_camera_get_vendor_name": (c_char_p, c_void_p),
    "arv_camera_get_model_name": (c_char_p, c_void_p),
    "arv_camera_get_device_serial_number": (c_char_p, c_void_p),
    "arv_camera_dup_available_pixel_formats_as_strings": (c_void_p, c_void_p, _P_UINT),
    "arv_camera_dup_available_trigger_sources": (c_void_p, c_void_p, _P_UINT),
}


class _GError(ctypes.Structure):
    _fields_ = (("domain", c_uint32), ("code", c_int), ("message", c_char_p))


class AravisFailure(CameraError):
    """A call that the library or the device refused; the text is the library's own."""


class Library:
    """The loaded library. call() and ask() take its functions by name, without the prefix arv_ where they have it."""

    def __init__(self) -> None:
        try:
            self._own = ctypes.CDLL(NAME)
        except OSError as error:
            raise CameraError(
                f"{NAME} is not installed ({error}), wanted for GigE and USB3 Vision cameras."
                " Add it: sudo apt-get install libaravis-0.8-0"
            ) from error

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function that cannot fail."""
        return self._function(name, _PLAIN[name])(*arguments)

    def ask(self, name: str, *arguments: Any) -> Any:
        """Call a function that can fail. Raises AravisFailure."""
        failed = POINTER(_GError)()
        result = self._function(name, (*_FALLIBLE[name], POINTER(POINTER(_GError))))(*arguments, ctypes.byref(failed))
        if not failed:
            return result
        message = (failed.contents.message or b"no reason given").decode(errors="replace")
        self.call("g_error_free", ctypes.cast(failed, c_void_p))
        raise AravisFailure(" ".join(message.split()))

    def set_property(self, gobject: int, name: str, value: int) -> None:
        """Set an integer or enum property of a GObject."""
        # Variadic; Linux passes these arguments like any others, on x86-64 and on aarch64.
        self._own.g_object_set(c_void_p(gobject), c_char_p(name.encode()), c_int(value), c_void_p(None))

    def names(self, function: str, gobject: int) -> tuple[str, ...]:
        """A function that gives an array of names. Raises AravisFailure."""
        count = c_uint()
        array = self.ask(function, gobject, ctypes.byref(count))
        texts = ctypes.cast(array, POINTER(c_char_p))[: count.value] if array else []
        found = tuple((text or b"").decode(errors="replace") for text in texts)
        self.call("g_free", array)  # the container only: the texts stay the device's
        return found

    def _function(self, name: str, types: tuple[Any, ...]) -> Any:
        function = getattr(self._own, name)
        function.restype, function.argtypes = types[0], types[1:]
        return function


@cache
def library() -> Library:
    """The library, loaded once. Raises CameraError with the command that installs it."""
    return Library()
