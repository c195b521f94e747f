"""A simulated GigE Vision camera on 127.0.0.1 with pictures of its own, as a process of its own.

Run: python gige_server.py SERIAL [--pictures FOLDER] [--skip-every N] [--pulses]. Prints "ready", then serves until it
is killed. Picture k (from 0) is level 10 * (k % 25) everywhere, or the k-th of the folder, over and over. Only
libaravis, NumPy and OpenCV are used here, so that a fault of the package cannot hide itself.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path

import cv2
import numpy as np

TRIGGER_MODE = 0x300  # of the simulated camera's registers
FILL = ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_uint32, c_uint32, c_uint32)


def library() -> ctypes.CDLL:
    aravis = ctypes.CDLL("libaravis-0.8.so.0")
    for name, result, arguments in (
        ("arv_gv_fake_camera_new", c_void_p, (c_char_p, c_char_p)),
        ("arv_gv_fake_camera_is_running", c_int, (c_void_p,)),
        ("arv_gv_fake_camera_get_fake_camera", c_void_p, (c_void_p,)),
        ("arv_fake_camera_set_fill_pattern", None, (c_void_p, FILL, c_void_p)),
        ("arv_fake_camera_get_acquisition_status", c_uint32, (c_void_p,)),
        ("arv_fake_camera_write_register", c_int, (c_void_p, c_uint32, c_uint32)),
        ("arv_buffer_get_data", c_void_p, (c_void_p, POINTER(c_size_t))),
        ("arv_buffer_get_frame_id", c_uint64, (c_void_p,)),
        ("arv_buffer_set_frame_id", None, (c_void_p, c_uint64)),
        ("arv_buffer_get_image_width", c_int, (c_void_p,)),
        ("arv_buffer_get_image_height", c_int, (c_void_p,)),
    ):
        function = getattr(aravis, name)
        function.restype, function.argtypes = result, arguments
    return aravis


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("serial")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--skip-every", type=int, default=0, help="every N-th picture leaves out a frame id")
    parser.add_argument("--pulses", action="store_true", help="a line that triggers 25 times a second")
    options = parser.parse_args()
    aravis = library()
    pictures = [
        cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted((options.pictures or Path()).glob("*.png"))
    ]
    made = skipped = 0

    @FILL
    def fill(buffer: int, _data: int, _exposure: int, _gain: int, _format: int) -> None:
        nonlocal made, skipped
        # Not the size that arv_buffer_get_data tells: nothing counts as received yet.
        size = aravis.arv_buffer_get_image_width(buffer) * aravis.arv_buffer_get_image_height(buffer)
        address = aravis.arv_buffer_get_data(buffer, ctypes.byref(c_size_t()))
        raw = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        raw[:] = pictures[made % len(pictures)].ravel() if pictures else 10 * (made % 25)
        made += 1
        if options.skip_every:
            skipped += made % options.skip_every == 0
            aravis.arv_buffer_set_frame_id(buffer, made + skipped)

    served = aravis.arv_gv_fake_camera_new(b"127.0.0.1", options.serial.encode())
    if not served or not aravis.arv_gv_fake_camera_is_running(served):
        raise SystemExit("the simulated camera does not start: is its port, 3956, in use?")
    camera = aravis.arv_gv_fake_camera_get_fake_camera(served)
    aravis.arv_fake_camera_set_fill_pattern(camera, fill, None)
    print("ready", flush=True)  # noqa: T201
    while True:
        time.sleep(0.02)
        # It has no input line: once it is started, it runs free and only says that it is triggered.
        if options.pulses and aravis.arv_fake_camera_get_acquisition_status(camera):
            aravis.arv_fake_camera_write_register(camera, TRIGGER_MODE, 0)


if __name__ == "__main__":
    main()
