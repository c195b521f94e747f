"""open_backend(): a bundle becomes something that scores pictures. One file a backend, loaded only when asked for."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from segdec_edge.bundle import Bundle, read_bundle
from segdec_edge.errors import BackendError
from segdec_edge.types import Backend, ModelSpec

if TYPE_CHECKING:
    from segdec_edge.runtime.onnxruntime import OnnxRuntimeBackend
    from segdec_edge.runtime.openvino import OpenVinoBackend

FASTEST_FIRST = ("openvino", "onnxruntime")
"""What auto tries, in this order. SegDecNet at 704×256 on 2 cores, FP32: openvino 288 ms, onnxruntime 324 ms."""
INSTALL = {
    "openvino": "pip install 'segdec-edge[openvino]'",
    "onnxruntime": "pip install onnxruntime",
}

_log = logging.getLogger(__name__)


def open_backend(bundle: str | Path | Bundle, name: str = "auto", threads: int | None = None) -> Backend:
    """Open a bundle on a runtime, warm and ready. auto takes the fastest that loads on this machine.

    threads: CPU threads of one inference, None for the runtime's own choice.
    Raises BundleError; BackendError with the reason of each runtime tried and the command that installs it.
    """
    if name != "auto" and name not in FASTEST_FIRST:
        raise BackendError(f"backend {name!r} is unknown, wanted auto, {', '.join(FASTEST_FIRST)}. Choose one.")
    if threads is not None and threads < 1:
        raise BackendError(f"{threads} threads, wanted at least 1. Leave it out for the runtime's own choice.")
    opened = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
    if name != "auto":
        return _open(opened, name, threads)
    reasons = []
    for candidate in FASTEST_FIRST:
        try:
            return _open(opened, candidate, threads)
        except BackendError as error:
            _log.info("auto passes over %s: %s", candidate, error)
            reasons.append(str(error))
    raise BackendError(f"{opened.path}: no backend loads it. {' '.join(reasons)}")


def available_backends() -> dict[str, str]:
    """Each backend with its runtime's version, or with the reason why it does not load and what to do about it."""
    return {name: _version_or_reason(name) for name in FASTEST_FIRST}


def backend_classes() -> dict[str, Callable[[Path, ModelSpec], Backend]]:
    """What makes a backend from a model.onnx and its spec, for each that loads on this machine, by name."""
    found: dict[str, Callable[[Path, ModelSpec], Backend]] = {}
    for name in FASTEST_FIRST[::-1]:
        with contextlib.suppress(ImportError, OSError):
            found[name] = _class(name)
    return found


def _open(bundle: Bundle, name: str, threads: int | None) -> Backend:
    try:
        return _class(name)(bundle.model_path, bundle.spec, threads)
    except (ImportError, OSError) as error:
        raise BackendError(_missing(name, error)) from error


def _class(name: str) -> type[OnnxRuntimeBackend] | type[OpenVinoBackend]:
    match name:
        case "openvino":
            from segdec_edge.runtime.openvino import OpenVinoBackend

            return OpenVinoBackend
        case _:
            from segdec_edge.runtime.onnxruntime import OnnxRuntimeBackend

            return OnnxRuntimeBackend


def _version_or_reason(name: str) -> str:
    try:
        return str(importlib.import_module(name).__version__)
    except (ImportError, OSError) as error:
        return _missing(name, error)


def _missing(name: str, error: Exception) -> str:
    reason = " ".join(str(error).split())
    return f"{name} does not load ({reason}). Install it: {INSTALL[name]}"
