"""A backend that another thread closes leaves its opener able to take signals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from segdec_edge.runtime.signal_stack import kept_signal_stack
from tests.deploy.bright_parts import bright_bundle

CLOSED_ELSEWHERE = """
import gc, signal, sys, threading
from pathlib import Path
from segdec_edge.bundle import read_bundle
from segdec_edge.runtime import open_backend

backends = [open_backend(read_bundle(Path(sys.argv[1])), sys.argv[2])]

def away():
    backends.pop().close()
    gc.collect()

thread = threading.Thread(target=away)
thread.start()
thread.join()
signal.signal(signal.SIGINT, lambda number, frame: print("taken"))
signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.parametrize("faulthandler", [[], ["-X", "faulthandler"]], ids=["without a stack", "with one"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_signal_after_another_thread_closed_the_backend(
    tmp_path: Path, backend: str, faulthandler: list[str]
) -> None:
    """In a process of its own, for it ended by a segmentation fault. Python's faulthandler brings a stack as well."""
    pytest.importorskip(backend)
    bright_bundle(tmp_path / "parts.bundle", None)
    command = [sys.executable, *faulthandler, "-c", CLOSED_ELSEWHERE, str(tmp_path / "parts.bundle"), backend]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "taken\n"), done.stderr


def test_what_happens_inside_comes_out() -> None:
    with pytest.raises(ZeroDivisionError), kept_signal_stack():
        raise ZeroDivisionError
