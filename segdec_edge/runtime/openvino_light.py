"""OpenVINO without its model converter, which its own __init__ else loads too."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

_CONVERTER = "openvino.tools.ovc"


def load_openvino() -> ModuleType:
    """The package openvino. Raises ImportError, OSError where it does not load.

    The converter brings a telemetry client, urllib and ssl along: half of 0.37 s of CPU time, for nothing that a
    station does (benchmarks/startup.py). openvino goes without it where it cannot be imported, and a name that is None
    among the modules cannot be. Who asks for the converter itself still gets it.
    """
    if "openvino" in sys.modules or _CONVERTER in sys.modules:
        return importlib.import_module("openvino")
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[_CONVERTER]
