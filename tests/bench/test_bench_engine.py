"""Engines: the device's own times as stages, two batches in flight, and what a plan's sidecar tells. On the host's
stand-in for TensorRT, as there need be no GPU."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from segdec_edge.bench.forms import Form, Wish, forms_of
from segdec_edge.bench.run import made_pictures
from segdec_edge.bench.stages import prepared, turn_of
from segdec_edge.bench.throughput import Crew, window
from segdec_edge.bundle import ENGINES, Bundle
from segdec_edge.runtime.sidecar import sidecar_of
from segdec_edge.runtime.tensorrt import TensorRtBackend
from tests.deploy.made_bundles import made_bundle
from tests.host_cuda import HostCuda
from tests.standin_tensorrt import StandIn, standin_plan


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return made_bundle(tmp_path, split=False)


@pytest.mark.parametrize("integrated", [False, True], ids=["discrete", "shared memory"])
def test_the_devices_own_times_are_stages(bundle: Bundle, tmp_path: Path, integrated: bool) -> None:
    cuda = HostCuda(integrated=integrated)
    backend = TensorRtBackend(standin_plan(tmp_path, bundle), bundle, StandIn(cuda).found(), cuda)
    times = turn_of(backend, bundle.spec, made_pictures(2, (128, 64), 1), 2)(0)
    backend.close()
    assert set(times) == {"prepare", "infer", "decide", "copy_in", "device", "copy_out"}
    assert times["copy_in"] + times["device"] + times["copy_out"] <= times["infer"]
    assert (times["copy_in"] == 0) == integrated


def test_an_engine_has_two_batches_in_flight_and_is_closed(bundle: Bundle, tmp_path: Path) -> None:
    cuda = HostCuda()
    module, plan = StandIn(cuda), standin_plan(tmp_path, bundle)
    flying: list[int] = []

    class Watched(TensorRtBackend):
        def collect(self, ticket):  # type: ignore[no-untyped-def]
            flying.append(len(self._flying))
            return super().collect(ticket)

    def open_one(threads: int | None) -> TensorRtBackend:
        return Watched(plan, bundle, module.found(), cuda)

    form = Form("parts", "tensorrt/sm87-fp16", bundle.spec, 1, open_one)
    pixels = prepared(made_pictures(2, (128, 64), 1), bundle.spec)
    assert window(form, pixels, 0.01, Crew(1, None), None).pictures_per_s > 0
    assert flying and set(flying) == {2}
    assert cuda.memory == {}


def test_an_engine_is_a_form_with_what_its_sidecar_tells(bundle: Bundle, tmp_path: Path) -> None:
    plan = standin_plan(tmp_path, bundle, precision="fp16", build_seconds=12.5)
    engines = bundle.path / ENGINES
    engines.mkdir()
    for file in (plan.path, sidecar_of(plan.path)):
        shutil.copy(file, engines / file.name)
    (engines / "bare.plan").write_bytes(b"no sidecar")
    found = forms_of(Wish((bundle.path,), backends=("tensorrt",)))
    (form,) = found.forms
    assert form.backend == f"tensorrt/{plan.path.stem}" and form.on_gpu
    assert (form.spec.precision, form.build_seconds) == ("fp16", 12.5)
    assert (form.spec.sha256, form.size_bytes) == (plan.facts.plan_sha256, plan.facts.plan_bytes)
    assert form.spec.max_batch == plan.facts.batches[2]
    (bare,) = found.not_run
    assert "segdec build" in bare.reason and str(tmp_path) not in bare.reason.split(":")[0]
