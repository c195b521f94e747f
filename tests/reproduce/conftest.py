from __future__ import annotations

from tests.training.conftest import parts

__all__ = ["parts"]
