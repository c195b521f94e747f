"""The converter stays out of a station's process, and stays there for who asks for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("openvino")

TRY = """
import sys
from segdec_edge.runtime.openvino import OpenVinoBackend
loaded = [name for name in sys.modules if name.startswith(("openvino.tools.ovc", "openvino_telemetry"))]
assert not loaded, loaded
import openvino.tools.ovc
assert openvino.tools.ovc.convert_model
"""


def test_the_converter_is_not_loaded_but_can_be() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", TRY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
