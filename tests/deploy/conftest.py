"""Tiny exported networks: one read as layers and folded, for the tests of what is done to it, and one to build."""

from __future__ import annotations

import pytest

from segdec_edge.bundle import Bundle
from segdec_edge.deploy.export import export_checkpoint
from segdec_edge.deploy.fold import folded
from segdec_edge.deploy.graph_read import read_network
from segdec_edge.deploy.network import Network
from tests.deploy.made_engines import exported
from tests.deploy.made_networks import PIXELS
from tests.nets import SIZE_HW, lively_net, save_net


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("networks")
    checkpoint = save_net(folder / "tiny.pt", lively_net(), threshold=0.3)
    return export_checkpoint(checkpoint, folder / "tiny.bundle", pictures=list(PIXELS[..., 0]))


@pytest.fixture(scope="session")
def network(bundle: Bundle) -> Network:
    return read_network(bundle.model_path.read_bytes())


@pytest.fixture(scope="session")
def plain(network: Network) -> Network:
    return folded(network, PIXELS)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return exported(tmp_path_factory.mktemp("engine"), 0.25, SIZE_HW)
