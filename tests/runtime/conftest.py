"""One tiny exported network for all tests of runtimes, and a TensorRT backend on stand-ins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segdec_edge.bundle import Bundle
from segdec_edge.deploy.export import export_checkpoint
from segdec_edge.runtime.tensorrt import TensorRtBackend
from tests.host_cuda import HostCuda
from tests.nets import lively_net, save_net, textures
from tests.runtime.standin_backend import Make
from tests.standin_tensorrt import StandIn, standin_plan


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_net(tmp_path_factory.mktemp("checkpoint") / "tiny.pt", lively_net(), threshold=0.25)


@pytest.fixture(scope="session")
def bundle(checkpoint: Path) -> Bundle:
    pictures = list(textures(2)[..., 0])
    return export_checkpoint(checkpoint, checkpoint.with_name("tiny.bundle"), pictures=pictures, simplify=False)


@pytest.fixture(params=[False, True], ids=["discrete", "shared memory"])
def cuda(request: pytest.FixtureRequest) -> HostCuda:
    return HostCuda(integrated=request.param)


@pytest.fixture
def module(cuda: HostCuda) -> StandIn:
    return StandIn(cuda)


@pytest.fixture
def make(cuda: HostCuda, module: StandIn, bundle: Bundle, tmp_path: Path) -> Make:
    """Open the stand-in's engine; options of TensorRtBackend, or facts=… of the plan's sidecar."""

    def make(facts: dict[str, Any] | None = None, content: bytes = b"plan", **options: Any) -> TensorRtBackend:
        plan = standin_plan(tmp_path, bundle, content, **(facts or {}))
        return TensorRtBackend(plan, bundle, module.found(), cuda, **options)

    return make
