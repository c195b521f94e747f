"""What the start-up benchmark reads from -X importtime."""

from __future__ import annotations

import pytest

from benchmarks.startup import by_package, parsed

SAID = """\
import time: self [us] | cumulative | imported package
import time:      1200 |       1500 |     numpy.core
import time:       900 |       2400 |   numpy
import time:       300 |        300 | json
something else
"""


def test_own_times_are_summed_by_package() -> None:
    modules = parsed(SAID)
    assert modules == {"numpy.core": 1.2, "numpy": 0.9, "json": 0.3}
    assert by_package(modules) == {"numpy": pytest.approx(2.1), "other": pytest.approx(0.3)}
