"""CUDA without a GPU, without pycuda and without cuda-bindings: what is said. With them: test_cuda_gpu.py."""

from __future__ import annotations

import subprocess
import sys

import pytest

from segdec_edge.errors import BackendError
from segdec_edge.runtime.cuda import PyCuda, graphs_or_reason, open_cuda, pycuda_version, require_gpu
from segdec_edge.runtime.gpu import Gpu, current_gpu

ORIN = Gpu("Orin", (8, 7), 8, integrated=True)


def test_without_a_gpu_it_says_so() -> None:
    with pytest.raises(BackendError, match=r"no NVIDIA driver or GPU here.*segdec doctor.*onnxruntime"):
        require_gpu(None)
    assert require_gpu(ORIN) is ORIN


def test_this_machine_is_asked() -> None:
    if current_gpu() is not None:
        pytest.skip("there is a GPU here")
    with pytest.raises(BackendError, match="no NVIDIA driver or GPU here"):
        open_cuda()


def test_without_pycuda_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.delitem(sys.modules, "pycuda.driver", raising=False)
    for call in (pycuda_version, lambda: PyCuda(ORIN)):
        with pytest.raises(BackendError, match=r"pycuda does not load \(.*pip install 'segdec-edge\[cuda\]'") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_without_cuda_bindings_graphs_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    monkeypatch.setitem(sys.modules, "cuda", None)
    assert "pip install 'segdec-edge[cuda-graphs]'" in graphs_or_reason()


def test_the_modules_alone_load_no_vendor_library() -> None:
    code = "import sys, segdec_edge.runtime.tensorrt; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for module in ("pycuda", "cuda", "tensorrt", "tensorrt_rtx", "torch", "onnxruntime"):
        assert f"'{module}'" not in done.stdout
