"""How benchmarks/scale.py says that a cost grows, on made-up costs."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.scale_fit import fit, plot_svg

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"
SIZES = (100, 300, 1000, 3000, 10_000)


def power(exponent: float, noise: float = 0.0) -> dict[float, list[float]]:
    rng = np.random.default_rng(0)
    return {size: list(3 * size**exponent * np.exp(noise * rng.standard_normal(9))) for size in SIZES}


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_a_power_law_is_found_with_nothing_left_over(exponent: float) -> None:
    found = fit(power(exponent))
    assert found is not None
    assert found.exponent == pytest.approx(exponent, abs=1e-9)
    assert found.factor == pytest.approx(3)
    assert found.residual == pytest.approx(0, abs=1e-9)


def test_a_bend_is_found_where_it_is() -> None:
    curve = {size: [cost * max(1.0, size / 3000) ** 1.5 for cost in costs] for size, costs in power(1.0, 0.01).items()}
    found = fit(curve)
    assert found is not None
    assert found.knee is not None
    assert (found.knee.low, found.knee.high) == (3000, 10_000)
    assert found.knee.exponent == pytest.approx(2.5, abs=0.1)
    assert found.knee.sigmas > 3


def test_noise_alone_makes_no_knee_worth_its_name() -> None:
    found = fit(power(1.0, 0.1))
    assert found is not None
    assert found.knee is not None
    assert found.knee.sigmas < 3


def test_one_point_has_no_exponent_and_two_have_no_knee() -> None:
    assert fit({5: [1.0]}) is None
    two = fit({5: [1.0], 10: [4.0]})
    assert two is not None
    assert two.exponent == pytest.approx(2)
    assert two.knee is None


def test_the_plot_shows_every_point_and_tells_the_exponent() -> None:
    drawn = plot_svg("cost", "rows", "s", {"write <all>": power(1.0), "read": {10: [0.5]}, "never": {}})
    root = ElementTree.fromstring(drawn)
    circles = [one for one in root.iter() if one.tag.endswith("circle") and one.get("class") != "knee"]
    assert len(circles) == len(SIZES) + 1
    assert "exponent 1.00" in drawn
    assert "write &lt;all&gt;" in drawn


def test_ledger_points_of_two_days_are_not_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    scale = importlib.import_module("scale")
    known: dict[str, Any] = {}
    scale.lend_ledger(known, [])
    assert {point["size"] for point in known.values()} == {10**4, 10**5, 10**6}
    scale.lend_ledger(known, [10**7])
    assert known == {}
    known["ledger 1e+07"] = {"axis": "ledger", "size": 10**7, "curves": {}}
    scale.lend_ledger(known, [])
    assert list(known) == ["ledger 1e+07"]
    assert "| ledger | verify | 1.10 | ± 5 % | – | – |" in scale.markdown(
        {"ledger": {"verify": {"exponent": 1.1, "residual": 0.05, "knee": None}}}
    )
