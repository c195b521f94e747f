"""Checkpoints: whole or absent, read as data only, and clear about what is wrong with them."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segdec_edge.errors import BackendError, CheckpointError, StorageError
from segdec_edge.files import sha256_of
from segdec_edge.model.backend import open_checkpoint
from segdec_edge.model.checkpoint import Checkpoint, load_checkpoint, require_network, save_checkpoint
from tests.nets import SIZE_HW, lively_net, save_net, textures


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save_net(tmp_path / "net.pt", lively_net(width=0.1), threshold=0.25)


def write(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def refused(path: Path) -> str:
    """The message of a refusal, checked to be one line that names the file."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert "\x1b" not in message
    assert "weights_only" not in message  # torch advises to switch the protection off
    return message


@pytest.mark.parametrize(("in_channels", "norm"), [(1, "feature"), (3, "batch")])
def test_round_trip(tmp_path: Path, in_channels: int, norm: Any) -> None:
    net = lively_net(in_channels, 0.1, norm)
    saved = Checkpoint(
        net=net,
        size_hw=SIZE_HW,
        threshold=0.125,
        threshold_source="validation",
        epoch=12,
        facts={"settings": {"data": "folder:x", "rate": 0.1, "fold": None}, "versions": ["1"]},
        progress={"use_counts": torch.arange(5), "history": [{"total": 0.5}], "scaler": {}},
    )
    save_checkpoint(tmp_path / "net.pt", saved)
    found = load_checkpoint(tmp_path / "net.pt")
    assert (found.net.in_channels, found.net.width, found.net.norm) == (in_channels, 0.1, norm)
    assert not found.net.training
    for key, value in net.state_dict().items():
        assert torch.equal(found.net.state_dict()[key], value), key
    for name in ("size_hw", "threshold", "threshold_source", "epoch", "facts"):
        assert getattr(found, name) == getattr(saved, name), name
    assert torch.equal(found.progress["use_counts"], torch.arange(5))
    assert found.progress["history"] == [{"total": 0.5}]
    assert found.sha256 == sha256_of(tmp_path / "net.pt")


def test_a_version_string_of_torch_among_the_facts_does_not_spoil_the_file(tmp_path: Path) -> None:
    """torch.__version__ is no str but a class of torch's, which weights_only refuses."""
    facts = {"versions": {"torch": torch.__version__}}
    found = load_checkpoint(save_net(tmp_path / "net.pt", lively_net(width=0.1), facts=facts))
    assert found.facts["versions"]["torch"] == str(torch.__version__)
    assert type(found.facts["versions"]["torch"]) is str


def test_a_file_that_already_holds_one_is_read(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    write(path, {**content, "facts": {"torch": torch.__version__}})
    assert load_checkpoint(path).facts["torch"] == torch.__version__


def test_what_could_not_be_read_back_is_not_written(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_net(path, lively_net(width=0.1), facts={"path": Path("x")})
    with pytest.raises(Exception, match="Unsupported"):
        save_net(path, lively_net(width=0.1), progress={"path": Path("x")})
    assert path.read_bytes() == before


@pytest.mark.parametrize("width", [0.25, 1.0])
def test_a_bare_state_dict_as_the_authors_write_it_is_read(tmp_path: Path, width: float) -> None:
    net = lively_net(3, width)
    found = load_checkpoint(write(tmp_path / "authors.pth", net.state_dict()))
    assert (found.net.in_channels, found.net.width, found.net.norm) == (3, width, "feature")
    assert found.size_hw is None
    assert torch.equal(found.net.fc.weight, net.fc.weight)
    with pytest.raises(CheckpointError, match=r"does not say its input size. Give it: --size"):
        open_checkpoint(tmp_path / "authors.pth")
    assert open_checkpoint(tmp_path / "authors.pth", SIZE_HW).infer(textures(1, 3)).score.shape == (1,)


def test_a_missing_file(tmp_path: Path) -> None:
    assert "no such checkpoint" in refused(tmp_path / "none.pt")


def test_a_folder(tmp_path: Path) -> None:
    assert "cannot be read (Is a directory)" in refused(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"GIF89a", b"\x80\x02}.", os.urandom(3000)])
def test_garbage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.pt").write_bytes(content)
    refused(tmp_path / "net.pt")


def test_a_file_cut_anywhere(path: Path) -> None:
    content = path.read_bytes()
    for length in (*range(0, len(content), len(content) // 12), len(content) - 1):
        path.write_bytes(content[:length])
        refused(path)


def test_a_changed_weight_is_noticed(path: Path) -> None:
    """torch.load does not look at the file's own sums."""
    content = bytearray(path.read_bytes())
    weight = lively_net(width=0.1).fc.weight.detach().numpy().tobytes()
    at = content.find(weight[:16])
    assert at > 0
    content[at] ^= 0x40
    path.write_bytes(content)
    torch.load(path, weights_only=True)
    assert "is damaged" in refused(path)


def test_random_changes_never_end_in_a_traceback(path: Path) -> None:
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        changed = bytearray(content)
        for position in rng.integers(0, min(len(changed), 4000), 3):
            changed[position] = rng.integers(256)
        path.write_bytes(changed)
        if changed != content:
            refused(path)


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.trace}",)

    def __init__(self, trace: Path) -> None:
        self.trace = trace


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    trace, path = tmp_path / "it-ran", tmp_path / "bomb.pt"
    torch.save({"format": 1, "state_dict": {}, "facts": Bomb(trace)}, path)
    message = refused(path)
    assert not trace.exists()
    assert "asks to load the code" in message
    assert "system" in message
    torch.load(path, weights_only=False)  # the bomb is a live one
    assert trace.exists()


def test_a_plain_pickle_does_not_run_either(tmp_path: Path) -> None:
    import pickle

    trace, path = tmp_path / "it-ran", tmp_path / "bomb.pkl"
    path.write_bytes(pickle.dumps(Bomb(trace), protocol=2))
    refused(path)
    assert not trace.exists()


def test_another_width_is_named(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    write(path, {**content, "network": {**content["network"], "width": 0.25}})
    message = refused(path)
    assert "weights do not fit, wanted a SegDecNet of width 0.25, 1 channels, norm feature" in message
    assert "size mismatch for volume.0.0.weight" in message


def test_a_missing_weight_is_named_in_one_sentence(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    content["state_dict"].popitem()
    message = refused(write(path, content))
    assert 'Missing key(s) in state_dict: "' in message
    assert '". Is it a checkpoint of another network?' in message


def test_a_newer_format(path: Path) -> None:
    write(path, {**torch.load(path, weights_only=True), "format": 2})
    assert "checkpoint format 2, wanted 1. Update segdec-edge" in refused(path)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {},
        torch.zeros(3),
        {"conv1.weight": torch.zeros(3)},
        {"volume.0.0.weight": torch.zeros(8)},
        {"volume.0.0.weight": torch.zeros(8, 5, 5, 5)},
        {"format": 1, "state_dict": {}},
        {"format": 1, "state_dict": {}, "network": {"width": 1.0, "layers": 3}},
        {"format": 1, "state_dict": 5, "network": {"width": 0.1}},
        {"format": 1, "state_dict": {}, "network": 5},
    ],
    ids=str,
)
def test_content_of_another_kind(tmp_path: Path, content: object) -> None:
    refused(write(tmp_path / "net.pt", content))


@pytest.mark.parametrize("change", [{"size_hw": 5}, {"size_hw": [128]}, {"threshold": "x"}, {"facts": 3}])
def test_fields_that_make_no_sense(path: Path, change: dict[str, object]) -> None:
    write(path, {**torch.load(path, weights_only=True), **change})
    assert "damaged" in refused(path)


def test_a_network_other_than_the_settings_ask_for(path: Path) -> None:
    checkpoint = load_checkpoint(path)
    require_network(checkpoint, path, in_channels=1, width=0.1, norm="feature")
    with pytest.raises(CheckpointError, match=r"checkpoint has width 0.1, the settings say 0.5. Set width = 0.1"):
        require_network(checkpoint, path, in_channels=1, width=0.5, norm="feature")


def test_a_full_disk_keeps_the_old_file(small_disk: Path) -> None:
    path = save_net(small_disk / "net.pt", lively_net(width=0.1), epoch=3)
    with pytest.raises(StorageError, match="the disk is full, nothing was written"):
        save_net(path, lively_net(width=0.1), epoch=4)
    assert load_checkpoint(path).epoch == 3
    assert [entry.name for entry in small_disk.iterdir()] == ["net.pt"]


_LIMITED = """
import resource, signal, sys
from pathlib import Path
from segdec_edge.errors import StorageError
from tests.nets import lively_net, save_net
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_net(Path(sys.argv[1]), lively_net(width=0.1), epoch=4)
except StorageError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on file sizes here")
def test_a_write_that_stops_halfway_keeps_the_old_file(path: Path) -> None:
    command = [sys.executable, "-c", _LIMITED, str(path)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    assert "cannot be written (File too large)" in done.stdout
    assert load_checkpoint(path).epoch == 0
    assert [entry.name for entry in path.parent.iterdir()] == ["net.pt"]


def test_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        save_net(tmp_path / "none" / "net.pt", lively_net(width=0.1))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_a_storage_error(path: Path) -> None:
    path.parent.chmod(0o500)
    with pytest.raises(StorageError, match="no permission"):
        save_net(path, lively_net(width=0.1))


def test_a_read_only_disk_is_a_storage_error(small_disk: Path) -> None:
    path = save_net(small_disk / "net.pt", lively_net(width=0.1), epoch=3)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError, match="no permission"):
        save_net(path, lively_net(width=0.1), epoch=4)
    assert load_checkpoint(path).epoch == 3


def test_a_device_that_is_not_there(path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(BackendError, match=r"device cuda cannot be used.*--device cpu"):
        open_checkpoint(path, device="cuda")


def test_the_file_is_a_plain_zip_of_torch(path: Path) -> None:
    assert zipfile.is_zipfile(io.BytesIO(path.read_bytes()))
