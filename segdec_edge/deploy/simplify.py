"""onnxsim in a process of its own: on some graphs it crashes, and that must not end the export."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

_SCRIPT = """
import sys
import onnx
import onnxsim
model, same = onnxsim.simplify(sys.argv[1])
if not same:
    sys.exit("its result computes something else")
onnx.save(model, sys.argv[2])
"""
TIMEOUT_S = 600


class NotSimplified(Exception):
    """Says in words why onnxsim gave no graph. Not for users: the export keeps the plain graph then."""


def simplified(model: bytes, script: str = _SCRIPT) -> bytes:
    """The same graph without what can be computed beforehand. Raises NotSimplified.

    script: what the process runs, with the names of the file to read and the file to write.
    """
    with TemporaryDirectory(prefix="segdec_simplify_") as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        before.write_bytes(model)
        command = [sys.executable, "-c", script, str(before), str(after)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise NotSimplified(f"onnxsim took more than {TIMEOUT_S} s") from error
        if done.returncode != 0 or not after.exists():
            raise NotSimplified(f"onnxsim failed: {_reason(done)}")
        return after.read_bytes()


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"it crashed with {signal.Signals(-done.returncode).name}"
    lines = done.stderr.strip().splitlines()
    return lines[-1][:200] if lines else f"it ended with code {done.returncode}"
