from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.made_parts import write_parts


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("parts"), good=14, defective=8)
