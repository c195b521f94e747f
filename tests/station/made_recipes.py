"""What recipes of the small bright bundles judge with, and frames for them. No test of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping

from segdec_edge.bundle import Bundle
from segdec_edge.config.recipes import RecipeConfig
from segdec_edge.decision import Rule
from segdec_edge.station.inspection import Inspector
from segdec_edge.types import Backend, Frame
from tests.deploy.bright_parts import SIZE_HW
from tests.fakes import plain_part


def inspectors(
    name: str, config: RecipeConfig, bundle: Bundle, backend: Backend, rule: Rule
) -> Mapping[str, Inspector]:
    return {
        "camera": Inspector(backend, rule, backend.spec.sha256, recipe=name, any_size=config.any_size),
    }


def frame(number: int = 0, value: int = 50) -> Frame:
    return Frame(plain_part(value, SIZE_HW), number, time.time_ns(), time.monotonic_ns(), f"{number}.png")
