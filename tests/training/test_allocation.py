"""Freed memory that a training keeps."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_CHILD = """
import resource, sys
import numpy as np
from segdec_edge.training.allocation import keep_freed_memory
if "keep" in sys.argv:
    assert keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(64_000_000, np.uint8)[:] = 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone can be told so")
def test_memory_that_was_freed_is_not_asked_of_the_kernel_again() -> None:
    def page_faults(*words: str) -> int:
        child = [sys.executable, "-c", _CHILD, *words]
        pages = {**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0"}
        return int(subprocess.run(child, env=pages, capture_output=True, text=True, check=True).stdout)

    assert page_faults("keep") < 0.1 * page_faults()
