"""open_backend(): a bundle becomes something that scores pictures. One file a backend, loaded only when asked for."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from segdec_edge.bundle import Bundle, read_bundle
from segdec_edge.errors import BackendError, BundleError
from segdec_edge.runtime.gpu import current_gpu
from segdec_edge.runtime.sidecar import plans_of
from segdec_edge.types import Backend, ModelSpec

if TYPE_CHECKING:
    from segdec_edge.runtime.onnxruntime import OnnxRuntimeBackend
    from segdec_edge.runtime.openvino import OpenVinoBackend

FASTEST_FIRST = ("openvino", "onnxruntime")
"""The CPU's, in this order. SegDecNet at 704×256 on 2 cores, FP32: openvino 288 ms, onnxruntime 324 ms."""
BACKENDS = ("tensorrt", *FASTEST_FIRST)
"""What auto tries, in this order."""
INSTALL = {
    "openvino": "pip install 'segdec-edge[openvino]'",
    "onnxruntime": "pip install onnxruntime",
}

_log = logging.getLogger(__name__)


def open_backend(bundle: str | Path | Bundle, name: str = "auto", threads: int | None = None) -> Backend:
    """Open a bundle on a runtime, warm and ready. auto takes the fastest that loads on this machine: tensorrt where the
    bundle holds an engine that fits, else the CPU's.

    threads: CPU threads of one inference, None for the runtime's own choice; of no meaning to tensorrt.
    Raises BundleError; BackendError with the reason of each runtime tried and the command that installs it.
    """
    if name != "auto" and name not in BACKENDS:
        raise BackendError(f"backend {name!r} is unknown, wanted auto, {', '.join(BACKENDS)}. Choose one.")
    if threads is not None and threads < 1:
        raise BackendError(f"{threads} threads, wanted at least 1. Leave it out for the runtime's own choice.")
    opened = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
    if name != "auto":
        return _open(opened, name, threads)
    on_gpu = _open_engine_if_any(opened)
    if on_gpu is not None:
        return on_gpu
    reasons = []
    for candidate in FASTEST_FIRST:
        try:
            return _open(opened, candidate, threads)
        except BackendError as error:
            _log.info("auto passes over %s: %s", candidate, error)
            reasons.append(str(error))
    raise BackendError(f"{opened.path}: no backend loads it. {' '.join(reasons)}")


def hand_over(backend: Backend) -> None:
    """Let go of a backend in the thread that made it; the next thread that uses it then has it for good."""
    release = getattr(backend, "hand_over", None)
    if release is not None:
        release()


def available_backends() -> dict[str, str]:
    """Each backend with its runtime's version, or with the reason why it does not load and what to do about it."""
    return {"tensorrt": _tensorrt_or_reason(), **{name: _version_or_reason(name) for name in FASTEST_FIRST}}


def backend_classes() -> dict[str, Callable[[Path, ModelSpec], Backend]]:
    """What makes a backend from a model.onnx and its spec, for each that loads on this machine, by name.

    Without tensorrt, which runs an engine, not a model.onnx.
    """
    found: dict[str, Callable[[Path, ModelSpec], Backend]] = {}
    for name in FASTEST_FIRST[::-1]:
        with contextlib.suppress(ImportError, OSError):
            found[name] = _class(name)
    return found


def _open_engine_if_any(bundle: Bundle) -> Backend | None:
    """The engine that fits this machine, None where there is none. Warns where a GPU is here and none of them fits."""
    if not plans_of(bundle):
        return None
    try:
        return _open(bundle, "tensorrt", None)
    except (BackendError, BundleError) as error:
        level = logging.INFO if current_gpu() is None else logging.WARNING
        _log.log(level, "auto passes over tensorrt: %s", str(error))
        return None


def _open(bundle: Bundle, name: str, threads: int | None) -> Backend:
    if name == "tensorrt":
        from segdec_edge.runtime.tensorrt import open_tensorrt

        return open_tensorrt(bundle)
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


def _tensorrt_or_reason() -> str:
    """Quick where there is no GPU: nothing is loaded then."""
    from segdec_edge.runtime.cuda import graphs_or_reason, pycuda_version, require_gpu
    from segdec_edge.runtime.tensorrt import installed_tensorrts

    try:
        gpu = require_gpu(current_gpu())
        words = [*(str(one) for one in installed_tensorrts()), f"on {gpu.name}", f"pycuda {pycuda_version()}"]
    except BackendError as error:
        return str(error)
    return ", ".join([*words, graphs_or_reason()])


def _version_or_reason(name: str) -> str:
    try:
        return str(importlib.import_module(name).__version__)
    except (ImportError, OSError) as error:
        return _missing(name, error)


def _missing(name: str, error: Exception) -> str:
    reason = " ".join(str(error).split())
    return f"{name} does not load ({reason}). Install it: {INSTALL[name]}"
