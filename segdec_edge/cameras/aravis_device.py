"""One open GigE or USB3 Vision device: found, set up, streaming; its buffers become Arrivals. Counts no triggers.

A device that died says nothing: its control calls take up to 3 s to fail, and its stream just stays empty.
"""

from __future__ import annotations

import ctypes
import ipaddress
import logging
import threading
import time

import numpy as np
from numpy.typing import NDArray

from segdec_edge.cameras import aravis_settings
from segdec_edge.cameras.accounting import INCOMPLETE, Arrival
from segdec_edge.cameras.aravis_library import AravisFailure, Library, library
from segdec_edge.cameras.found import FoundCamera
from segdec_edge.cameras.gige_discovery import identity_at
from segdec_edge.cameras.raw_pixels import bytes_needed, to_pixels
from segdec_edge.cameras.receive_buffer import enlarge
from segdec_edge.config.camera import AravisConfig
from segdec_edge.errors import CameraError, CameraLost

KIND = "aravis"
CLOSE_WAIT_S = 2.0
LOST_WAIT_S = 0.2  # enough where it lives after all

_STATUS = ("", "cleared", "timeout", "missing packets", "wrong packet", "too large", "unfinished", "aborted")
_IMAGE = 1  # ARV_BUFFER_PAYLOAD_TYPE_IMAGE
_PACKET_SOCKET_DISABLED = 1
_SOCKET_BUFFER_FIXED = 0

_log = logging.getLogger(__name__)
_last_seen: dict[str, FoundCamera] = {}
_listing = threading.Lock()  # the library's list is one for all threads, and read by index


def list_devices() -> list[FoundCamera]:
    """GigE and USB3 Vision devices that answer now; takes about 1 s. Raises CameraError where the library is absent."""
    found = library()
    with _listing:
        found.call("arv_update_device_list")
        return [_found(found, index) for index in range(found.call("arv_get_n_devices"))]


def find(device: str | None) -> FoundCamera:
    """The device of this id, serial number or address, or the only one. Raises CameraLost where it does not answer,
    CameraError where several do.

    Where an address is given, or known from the last time, that is asked alone first.
    """
    if device is not None and (known := _at_its_address(device)) is not None:
        return known
    answering = list_devices()
    named = [one for one in answering if device is None or device in (one.device, one.serial, one.address)]
    here = ", ".join(f"{one.device} ({one.address})" for one in answering) or "none"
    if not named:
        raise CameraLost(f"{device or 'camera'}: no such camera answers, here: {here}. Check power, cable and address.")
    if len(named) > 1:
        raise CameraError(f"{device or 'camera'}: several cameras answer: {here}. Set camera.device to one of them.")
    if device is not None:
        _last_seen[device] = named[0]
    return named[0]


class AravisDevice:
    """Opened, set up and streaming. Raises CameraLost where it does not answer, CameraError where it ignores a setting.

    pop() from one thread; trigger(), answers() and close() from any, but close() never during pop().
    """

    def __init__(self, config: AravisConfig) -> None:
        self._library = library()
        self._found = find(config.device)
        self._format, self._free = config.pixel_format, config.trigger == "free"
        self._max_age_ns = round(config.max_age_s * 1e9)
        self._stream: int | None = None
        self._controlling = threading.Lock()  # held while the device is asked something
        try:
            camera: int = self._library.ask("arv_camera_new", opening_name(self._found))
        except AravisFailure as failure:
            raise CameraLost(
                f"{self.name}: cannot be opened ({failure}). Close other programs that use it."
            ) from failure
        self._camera: int | None = camera
        try:
            self._start(camera, config)
        except CameraError as error:
            alive = self.answers()
            self.close(alive)
            if not alive:
                raise CameraLost(f"{self.name}: fell silent while it was set up. Check power and cable.") from error
            if isinstance(error, AravisFailure):
                raise CameraError(f"{self.name}: cannot be started ({error}). See segdec camera show.") from error
            raise

    @property
    def name(self) -> str:
        return self._found.device

    @property
    def first_id(self) -> int:
        """The frame id that its kind of device begins with."""
        return 1 if self._library.call("arv_camera_is_gv_device", self._camera) else 0

    def pop(self, timeout_s: float) -> list[Arrival]:
        """What came within timeout_s: one picture, or, free-running, all that wait; empty where nothing came."""
        wait_us = max(0, round(timeout_s * 1e6))
        buffer = self._library.call("arv_stream_timeout_pop_buffer", self._stream, wait_us)
        arrivals = []
        while buffer:
            try:
                arrivals.append(self._arrival(buffer))
            finally:
                self._library.call("arv_stream_push_buffer", self._stream, buffer)
            buffer = self._library.call("arv_stream_try_pop_buffer", self._stream) if self._free else None
        return arrivals

    def trigger(self) -> None:
        """Raises AravisFailure where the device does not take it, after some seconds."""
        with self._controlling:
            if self._camera is None:
                raise AravisFailure("the camera was closed")
            self._library.ask("arv_camera_software_trigger", self._camera)

    def answers(self) -> bool:
        """Whether the device still answers, and to this program; False takes some seconds."""
        with self._controlling:
            if self._camera is None or self._is_anothers(self._camera):
                return False
            try:
                self._library.ask("arv_camera_get_integer", self._camera, b"Width")
            except AravisFailure:
                return False
            return True

    def close(self, answering: bool) -> None:
        """Stop it where it answers, free the stream, then the camera. Takes at most CLOSE_WAIT_S.

        Letting go of a dead device takes the library 7 to 9 s: a thread does that, and it may be opened meanwhile.
        """
        camera, stream = self._camera, self._stream
        self._camera = self._stream = None
        if camera is None:
            return
        letting_go = threading.Thread(
            target=self._let_go, args=(camera, stream, answering), name=f"let go of {self.name}"
        )
        letting_go.start()
        letting_go.join(CLOSE_WAIT_S if answering else LOST_WAIT_S)

    def _let_go(self, camera: int, stream: int | None, answering: bool) -> None:
        with self._controlling:
            if answering:
                self._stop(camera)
            if stream is not None:
                self._library.call("g_object_unref", stream)
            self._library.call("g_object_unref", camera)

    def _is_anothers(self, camera: int) -> bool:
        """Whether a GigE device no longer obeys this program, or has not answered its heartbeat for some seconds."""
        device = self._library.call("arv_camera_get_device", camera)
        is_gige = self._library.call("arv_camera_is_gv_device", camera)
        return bool(is_gige) and not self._library.call("arv_gv_device_is_controller", device)

    def _start(self, camera: int, config: AravisConfig) -> None:
        self._stop(camera)  # a program that was killed leaves its camera running, and running it takes no settings
        aravis_settings.apply(self._library, camera, self.name, config)
        _, _, self._width, self._height = aravis_settings.region_of(self._library, camera)
        self._format_code = self._library.ask("arv_camera_get_pixel_format", camera)
        payload = self._library.ask("arv_camera_get_payload", camera)
        wanted = bytes_needed(self._format, self._height, self._width)
        if payload < wanted:
            raise CameraError(f"{self.name}: sends {payload} bytes a picture, wanted {wanted}. Check its settings.")
        if self._is_loopback():  # raw sockets see nothing of the loopback interface
            self._library.call("arv_camera_gv_set_stream_options", camera, _PACKET_SOCKET_DISABLED)
        self._stream = self._library.ask("arv_camera_create_stream", camera, None, None)
        self._set_up_stream(config)
        for _ in range(config.buffers):
            self._library.call(
                "arv_stream_push_buffer", self._stream, self._library.call("arv_buffer_new_allocate", payload)
            )
        self._library.ask("arv_camera_start_acquisition", camera)

    def _set_up_stream(self, config: AravisConfig) -> None:
        if self._stream is None or not self._library.call("arv_camera_is_gv_device", self._camera):
            return
        self._library.set_property(self._stream, "socket-buffer", _SOCKET_BUFFER_FIXED)
        self._library.set_property(self._stream, "socket-buffer-size", config.socket_buffer_bytes)
        self._library.set_property(self._stream, "packet-resend", int(config.packet_resend))
        _enlarge_buffer(
            self.name, self._library.call("arv_gv_stream_get_port", self._stream), config.socket_buffer_bytes
        )

    def _arrival(self, buffer: int) -> Arrival:
        wall_ns, host_ns = time.time_ns(), time.monotonic_ns()
        fault = self._fault(buffer)
        if fault.startswith(
            INCOMPLETE
        ):  # without its first packet the buffer still holds another picture's id and times
            return Arrival(None, None, fault, wall_ns, host_ns, 0)
        frame_id = self._library.call("arv_buffer_get_frame_id", buffer)
        device_ns = self._library.call("arv_buffer_get_timestamp", buffer)
        came_ns = self._library.call("arv_buffer_get_system_timestamp", buffer) or wall_ns
        age_ns = max(0, wall_ns - came_ns)
        if not fault and self._free and age_ns > self._max_age_ns:
            fault = "aged"
        pixels = None if fault else to_pixels(self._raw(buffer), self._format, self._height, self._width)
        return Arrival(frame_id, pixels, fault, wall_ns - age_ns, host_ns - age_ns, device_ns)

    def _fault(self, buffer: int) -> str:
        """Why a buffer is not the whole picture that was asked for; empty where it is."""
        call = self._library.call
        if status := call("arv_buffer_get_status", buffer):
            return f"{INCOMPLETE}: {_STATUS[status] if 0 < status < len(_STATUS) else f'status {status}'}"
        if call("arv_buffer_get_payload_type", buffer) != _IMAGE:
            return "no picture in it"
        size_hw = call("arv_buffer_get_image_height", buffer), call("arv_buffer_get_image_width", buffer)
        if size_hw != (self._height, self._width):
            return f"size {size_hw[0]}x{size_hw[1]}, wanted {self._height}x{self._width}"
        if call("arv_buffer_get_image_pixel_format", buffer) != self._format_code:
            return "another pixel format"
        short = self._raw(buffer).size < bytes_needed(self._format, self._height, self._width)
        return f"{INCOMPLETE}: too short" if short else ""

    def _raw(self, buffer: int) -> NDArray[np.uint8]:
        """The buffer's own bytes; valid until it is pushed back."""
        size = ctypes.c_size_t()
        address = self._library.call("arv_buffer_get_data", buffer, ctypes.byref(size))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size.value).from_address(address))

    def _stop(self, camera: int) -> None:
        try:
            self._library.ask("arv_camera_stop_acquisition", camera)
        except AravisFailure as failure:
            _log.debug("%s: not stopped: %s", self.name, failure)

    def _is_loopback(self) -> bool:
        return _is_address(self._found.address) and ipaddress.ip_address(self._found.address).is_loopback


def _at_its_address(device: str) -> FoundCamera | None:
    last = _last_seen.get(device)
    address = device if last is None else last.address
    identity = identity_at(address) if _is_address(address) else None
    if identity is None or (last is not None and identity.serial != last.serial):
        return None
    return last or FoundCamera(KIND, address, f"{identity.vendor} {identity.model}", identity.serial, address)


def opening_name(found: FoundCamera) -> bytes:
    """By address where it has one: the library looks an id up in its list, which may be older than the device."""
    return (found.address if _is_address(found.address) else found.device).encode()


def _is_address(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 4
    except ValueError:
        return False


def _found(source: Library, index: int) -> FoundCamera:
    def text(what: str) -> str:
        return (source.call(f"arv_get_device_{what}", index) or b"").decode(errors="replace")

    return FoundCamera(KIND, text("id"), f"{text('vendor')} {text('model')}", text("serial_nbr"), text("address"))


def _enlarge_buffer(name: str, port: int, wanted: int) -> None:
    granted = enlarge(port, wanted)
    if granted is not None and granted < wanted:
        _log.warning(
            "%s: the kernel grants a socket buffer of %d bytes, wanted %d, so packets may be lost."
            " Raise it: sudo sysctl -w net.core.rmem_max=%d",
            name,
            granted,
            wanted,
            wanted,
        )
