"""All cameras that this machine can see, over every kind of source. Opens none of them."""

from __future__ import annotations

from segdec_edge.cameras import aravis_device, opencv
from segdec_edge.cameras.found import FoundCamera
from segdec_edge.errors import CameraError


def list_cameras() -> tuple[list[FoundCamera], list[str]]:
    """GigE and USB3 Vision devices that answer and V4L2 devices; and what could not be searched, one line each."""
    problems: list[str] = []
    found = [
        FoundCamera("v4l2", str(one.by_id or one.path), one.model, "", str(one.path)) for one in opencv.list_devices()
    ]
    try:
        found = [*aravis_device.list_devices(), *found]
    except CameraError as error:
        problems.append(str(error))
    return found, problems
