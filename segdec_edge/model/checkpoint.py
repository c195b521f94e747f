"""Checkpoints: a network's weights with the facts needed to use, judge and resume it. Knows no training loop.

A file is what torch.save makes of plain dicts, lists, numbers, strings and tensors, and is read with weights_only=True.
A state_dict, as the authors' implementation writes it, is read too (authors.py).
"""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from segdec_edge.errors import CheckpointError, ModelError
from segdec_edge.files import sha256_of, write_atomic
from segdec_edge.model.authors import authors_state, network_of
from segdec_edge.model.segdecnet import SegDecNet

FORMAT = 1
# All of these were seen on cut or changed files: the unpickler uses what it reads before it looks at it.
_UNREADABLE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
)


@dataclass(frozen=True)
class Checkpoint:
    """net: on CPU, float32, eval mode. size_hw: the input size trained at, None where the file does not say.

    threshold: on the score, picked on training or validation data (threshold_source says which), None before that.
    facts: how it was trained (JSON values). progress: what resuming needs. sha256: of the file, empty before saving.
    """

    net: SegDecNet
    size_hw: tuple[int, int] | None = None
    threshold: float | None = None
    threshold_source: str = ""
    epoch: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    progress: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all, and only one that load_checkpoint can read.

    Raises StorageError (disk full, no permission); TypeError or UnpicklingError where facts are no JSON values or
    progress holds anything else than plain values and tensors.
    """
    net = checkpoint.net
    content = {
        "format": FORMAT,
        "network": {"in_channels": net.in_channels, "width": net.width, "norm": net.norm},
        "size_hw": list(checkpoint.size_hw) if checkpoint.size_hw else None,
        "threshold": checkpoint.threshold,
        "threshold_source": checkpoint.threshold_source,
        "epoch": checkpoint.epoch,
        "facts": json.loads(json.dumps(dict(checkpoint.facts))),
        "progress": dict(checkpoint.progress),
        "state_dict": {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()},
    }
    buffer = io.BytesIO()  # torch.save turns a full disk into its own RuntimeError; in memory it cannot meet one
    torch.save(content, buffer)
    buffer.seek(0)
    torch.load(buffer, weights_only=True)  # a class in progress would show only when the file is needed
    write_atomic(path, buffer.getvalue())


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint of ours, or one of the authors' implementation.

    Raises CheckpointError where the file is missing, corrupt, from a newer version or of another network.
    """
    path = Path(path)
    content = _read(path)
    if "format" not in content:
        return _rebuild_authors(content, path)
    if content["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: checkpoint format {content['format']}, wanted {FORMAT}. Update segdec-edge to read it."
        )
    try:
        return _rebuild(content, path)
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ModelError) as error:
        raise CheckpointError(
            f"{path}: damaged, its content makes no sense ({_first_line(error)}). Copy it again, or train anew."
        ) from error


def load_authors(path: Path) -> Checkpoint:
    """Read a checkpoint of the authors' implementation: weights and sha256, nothing else is in such a file.

    Raises CheckpointError as load_checkpoint, and where the file is one of ours.
    """
    content = _read(path)
    if "format" in content:
        raise CheckpointError(
            f"{path}: is a checkpoint of segdec-edge, wanted one of the authors' implementation. Use it as it is."
        )
    return _rebuild_authors(content, path)


def _rebuild_authors(content: Mapping[str, Any], path: Path) -> Checkpoint:
    state = authors_state(content, path)
    net = network_of(state, path)
    _load_weights(net, state, path)
    return Checkpoint(net=net.eval(), sha256=sha256_of(path))


def _rebuild(content: Mapping[str, Any], path: Path) -> Checkpoint:
    net = SegDecNet(**content["network"])
    _load_weights(net, content["state_dict"], path)
    size, threshold = content.get("size_hw"), content.get("threshold")
    return Checkpoint(
        net=net.eval(),
        size_hw=(int(size[0]), int(size[1])) if size else None,
        threshold=None if threshold is None else float(threshold),
        threshold_source=str(content.get("threshold_source", "")),
        epoch=int(content.get("epoch", 0)),
        facts=dict(content.get("facts", {})),
        progress=dict(content.get("progress", {})),
        sha256=sha256_of(path),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        _check_sums(path)
        # A str with comparisons, which runs nothing of the file's: torch.__version__ among the facts is one.
        with torch.serialization.safe_globals([TorchVersion]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint. Check the path, or train one: segdec train") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
    except _UNREADABLE as error:
        raise CheckpointError(f"{path}: {_refusal(error)}. Copy it again, or train anew.") from error
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, wanted a checkpoint. Check the path.")
    return content


def _check_sums(path: Path) -> None:
    """Raise BadZipFile where a part of the file has another CRC-32 than noted: torch.load takes changed weights."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"its part {damaged} is damaged")


def _refusal(error: Exception) -> str:
    """The reason without torch's advice, which is to switch the protection off."""
    text = str(error)
    found = re.search(r"[Uu]nsupported (?:global: )?GLOBAL (\S+)", text)
    if found:
        return f"asks to load the code {found[1]}, refused: a checkpoint is read as data only"
    return "not a readable checkpoint" + ("" if "weights_only" in text else f" ({_first_line(error)})")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__


def _load_weights(net: SegDecNet, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        net.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        wanted = f"a SegDecNet of width {net.width:g}, {net.in_channels} channels, norm {net.norm}"
        raise CheckpointError(
            f"{path}: weights do not fit, wanted {wanted}; {_shorten(lines)}. Is it a checkpoint of another network?"
        ) from error


def _shorten(lines: list[str]) -> str:
    first = re.sub(r"\s+", " ", lines[0]) if lines else "no reason given"
    first = first[:200].rstrip(". ")  # torch ends its line with a full stop, as ours does
    return f"{first} (and {len(lines) - 1} more)" if len(lines) > 1 else first


def require_network(checkpoint: Checkpoint, path: Path, *, in_channels: int, width: float, norm: str) -> None:
    """Raise CheckpointError where a checkpoint's network is not the one a setting asks for."""
    net = checkpoint.net
    for name, got, wanted in (
        ("width", net.width, width),
        ("in_channels", net.in_channels, in_channels),
        ("norm", net.norm, norm),
    ):
        if got != cast(object, wanted):
            raise CheckpointError(
                f"{path}: checkpoint has {name} {got}, the settings say {wanted}."
                f" Set {name} = {got}, or start anew in another folder."
            )
