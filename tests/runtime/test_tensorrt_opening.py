"""The TensorRT backend opened and closed on CUDA in the host's memory: refused engines, frees, leaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segdec_edge.bundle import ENGINES, Bundle, write_bundle
from segdec_edge.errors import BackendError, BundleError
from segdec_edge.runtime.tensorrt import TensorRtBackend, open_tensorrt
from tests.host_cuda import HostCuda
from tests.nets import textures
from tests.runtime.standin_backend import Make, failure, require_clean, require_right
from tests.standin_tensorrt import DataType, StandIn, standin_plan


def test_frees_come_in_the_order_of_need(make: Make, cuda: HostCuda) -> None:
    backend = make()
    backend.submit(textures(1))
    backend.close()
    order = cuda.frees
    last = {kind: len(order) - 1 - order[::-1].index(kind) for kind in set(order)}
    first = {kind: order.index(kind) for kind in set(order)}
    assert order.index("graph") < order.index("context")
    for before, after in (
        ("context", "engine"),
        ("context", "mapped" if cuda.integrated else "pinned"),
        ("context", "device"),
        ("context", "event"),
        ("event", "stream"),
        ("engine", "runtime"),
    ):
        assert last[before] < first[after], (before, after)
    require_clean(cuda)


def test_what_is_in_flight_ends_before_its_memory_goes(make: Make, cuda: HostCuda) -> None:
    """HostCuda asserts that what runs finds its memory."""
    backend = make()
    for _ in range(2):
        backend.submit(textures(1))
    backend.close()
    assert +cuda.live == {}


def test_a_thousand_times_opened_and_closed(module: StandIn, cuda: HostCuda, bundle: Bundle, tmp_path: Path) -> None:
    module.batches = (1, 1, 1)
    module.compute = lambda pixels: (np.zeros(1), np.zeros((1, 16, 8)))
    plan = standin_plan(tmp_path, bundle)
    for _ in range(1000):
        TensorRtBackend(plan, bundle, module.found(), cuda).close()
    require_clean(cuda)
    assert cuda.streams == {}
    assert len(cuda.frees) >= 20_000


@pytest.mark.parametrize(
    ("method", "calls"),
    [
        ("deserialize", 0),
        ("create_execution_context", 0),
        ("create_execution_context", 3),
        ("set_input_shape", 1),
        ("set_tensor_address", 4),
        ("execute_async_v3", 0),
        ("execute_async_v3", 3),
        ("execute_async_v3", 4),  # the last one, after the contexts are warm
    ],
)
def test_opening_fails_without_a_leak(make: Make, module: StandIn, cuda: HostCuda, method: str, calls: int) -> None:
    module.after[method] = calls
    assert "an illegal memory access" in failure(lambda: make(graphs=False))
    require_clean(cuda)


@pytest.mark.parametrize(
    "operation", ["stream", "event", "device", "pinned", "mapped", "upload", "launch", "synchronize", "record"]
)
def test_opening_without_memory_leaves_nothing(make: Make, cuda: HostCuda, operation: str) -> None:
    cuda.refused.add(operation)
    if (operation in ("pinned", "upload")) if cuda.integrated else (operation == "mapped"):
        make().close()
    else:
        assert "CUDA says no" in failure(make)
    require_clean(cuda)


def test_an_engine_that_is_null_is_refused(make: Make, module: StandIn, cuda: HostCuda) -> None:
    module.says = "Error Code 6: API Usage Error (The engine plan file is not compatible)"
    message = failure(lambda: make(content=b"bad plan"))
    assert "cannot load" in message
    assert "(Error Code 6: API Usage Error (The engine plan file is not compatible)" not in message  # nothing was said
    module.refused.add("deserialize")
    message = failure(make)
    assert "engine plan file is not compatible" in message
    assert "Rebuild it: segdec build" in message
    require_clean(cuda)


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("size_hwc", (256, 64, 1), r"sm87-fp32.plan takes pixels \(N, 256, 64, 1\)"),
        ("heatmap_hw", (8, 8), r"heatmap \(N, 8, 8\)"),
        ("names", ("pixels", "score"), "gives score"),
        ("dtype", DataType.UINT8, "heatmap is uint8"),
    ],
)
def test_an_engine_of_another_form_is_refused(
    make: Make, module: StandIn, cuda: HostCuda, field: str, value: object, wanted: str
) -> None:
    setattr(module, field, value)
    with pytest.raises(BackendError, match=wanted):
        make()
    assert cuda.live["stream"] == 0


def test_a_stripped_engine_is_filled_from_the_bundle(make: Make, module: StandIn, bundle: Bundle) -> None:
    make({"stripped": True}).close()
    assert module.refitted == [str(bundle.model_path)]
    module.refused.add("refit_cuda_engine")
    assert "cannot fill a stripped engine" in failure(lambda: make({"stripped": True}))


@pytest.fixture
def own_bundle(bundle: Bundle, tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "own.bundle", onnx_bytes=bundle.model_path.read_bytes(), meta=bundle.meta)


def test_the_matching_engine_of_a_bundle_is_opened(own_bundle: Bundle, cuda: HostCuda, module: StandIn) -> None:
    standin_plan(own_bundle.path / ENGINES, own_bundle)
    backend = open_tensorrt(own_bundle, installed=[module.found()], cuda=cuda)
    require_right(backend.infer(textures(1)), textures(1))
    assert backend.plan.path.parent.name == ENGINES


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        ({"runtime_version": "10.7.0"}, "was built for TensorRT 10.7.0, this machine has TensorRT 10.3.0"),
        ({"compute_capability": (8, 6)}, "was built on stand-in"),
        ({"onnx_sha256": "0" * 64}, "was built from model 000000000000"),
        ({"plan_bytes": 3}, "is damaged"),
    ],
)
def test_an_engine_that_does_not_fit_is_refused(
    own_bundle: Bundle, cuda: HostCuda, module: StandIn, facts: dict[str, Any], wanted: str
) -> None:
    standin_plan(own_bundle.path / ENGINES, own_bundle, **facts)
    message = failure(lambda: open_tensorrt(own_bundle, installed=[module.found()], cuda=cuda), BundleError)
    assert wanted in message
    assert "segdec build" in message
    assert +cuda.live == {}


def test_a_bundle_without_engines_says_how_to_build_one(own_bundle: Bundle, cuda: HostCuda, module: StandIn) -> None:
    message = failure(lambda: open_tensorrt(own_bundle, installed=[module.found()], cuda=cuda), BundleError)
    assert "has no engine" in message
    assert "segdec build" in message
