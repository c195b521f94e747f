"""One tiny exported network for all tests of runtimes."""

from __future__ import annotations

from pathlib import Path

import pytest

from segdec_edge.bundle import Bundle
from segdec_edge.deploy.export import export_checkpoint
from tests.nets import lively_net, save_net, textures


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_net(tmp_path_factory.mktemp("checkpoint") / "tiny.pt", lively_net(), threshold=0.25)


@pytest.fixture(scope="session")
def bundle(checkpoint: Path) -> Bundle:
    pictures = list(textures(2)[..., 0])
    return export_checkpoint(checkpoint, checkpoint.with_name("tiny.bundle"), pictures=pictures, simplify=False)
