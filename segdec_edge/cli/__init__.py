"""The command line: parse, call, print. The only place that catches SegdecError; loads no heavy module by itself.

One file for each part of the road; importing it registers its commands, in the order of `segdec --help`.
"""

from __future__ import annotations

import io
import logging
import os
import sys

from rich.logging import RichHandler

from segdec_edge.cli.app import app, errors
from segdec_edge.ending import ending_in_order
from segdec_edge.errors import PeerStopped, SegdecError

# isort: off
from segdec_edge.cli import data, train, deploy, rebuild, quantize, build, verify, info, bench  # noqa: F401
from segdec_edge.cli import reference, station, camera, ledger, reproduce, exchange  # noqa: F401
# isort: on

__all__ = ["app", "main"]


def main() -> None:
    """Entry point: exit 0, or 1 with one clear line per mistake; 2 for a wrong command line (typer)."""
    # No table here has a plugin; looking for one reads the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Through rich, so that a warning does not tear the station's live table.
    # In a log file rich would cut a line at 80 columns.
    rich = RichHandler(console=errors, show_time=False, show_path=False, rich_tracebacks=False)
    handler = rich if errors.is_terminal else logging.StreamHandler()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    if isinstance(sys.stdout, io.TextIOWrapper):  # a pipe that knows no "×" must not end a finished job in a traceback
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with ending_in_order():
            app()
    except PeerStopped:
        sys.exit(1)
    except SegdecError as error:
        for line in str(error).splitlines():
            errors.print(f"segdec: {line}", markup=False)
        sys.exit(1)
    except ModuleNotFoundError as error:
        hint = _extra_for(error.name or "")
        if hint is None:
            raise
        errors.print(f"segdec: {error.name} is not installed. Add it: pip install 'segdec-edge[{hint}]'", markup=False)
        sys.exit(1)


def _extra_for(module: str) -> str | None:
    needs_train = {"torch", "scipy", "sklearn", "onnx", "onnxsim", "matplotlib", "tensorboard"}
    return "train" if module.split(".")[0] in needs_train else None
